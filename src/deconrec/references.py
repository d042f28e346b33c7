"""The only place where bibliographic data lives. Docstrings cite by key: [Schnabel2016]."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication."""

    key: str
    title: str
    authors: str
    venue: str
    year: int


PAPERS: dict[str, Paper] = {
    paper.key: paper
    for paper in (
        Paper(
            "Koren2009",
            "Matrix factorization techniques for recommender systems",
            "Y. Koren, R. Bell, C. Volinsky",
            "Computer 42(8)",
            2009,
        ),
        Paper(
            "Schnabel2016",
            "Recommendations as treatments: Debiasing learning and evaluation",
            "T. Schnabel, A. Swaminathan, A. Singh, N. Chandak, T. Joachims",
            "ICML",
            2016,
        ),
        Paper(
            "Wang2019",
            "Doubly robust joint learning for recommendation on data missing not at random",
            "X. Wang, R. Zhang, Y. Sun, J. Qi",
            "ICML",
            2019,
        ),
        Paper(
            "Li2023",
            "Removing hidden confounding in recommendation: A unified multi-task learning approach",
            "H. Li, K. Wu, C. Zheng, Y. Xiao, H. Wang, Z. Geng, F. Feng, X. He, P. Wu",
            "NeurIPS",
            2023,
        ),
        Paper(
            "Zhu2024",
            "Deep causal reasoning for recommendations",
            "Y. Zhu, J. Yi, J. Xie, Z. Chen",
            "ACM Transactions on Intelligent Systems and Technology",
            2024,
        ),
        Paper(
            "Liang2018",
            "Variational autoencoders for collaborative filtering",
            "D. Liang, R. Krishnan, M. Hoffman, T. Jebara",
            "WWW",
            2018,
        ),
        Paper(
            "Wang2020",
            "Causal inference for recommender systems",
            "Y. Wang, D. Liang, L. Charlin, D. Blei",
            "RecSys",
            2020,
        ),
        Paper(
            "Marlin2009",
            "Collaborative prediction and ranking with non-random missing data",
            "B. Marlin, R. Zemel",
            "RecSys",
            2009,
        ),
        Paper(
            "Harper2015",
            "The MovieLens datasets: History and context",
            "F. M. Harper, J. Konstan",
            "ACM Transactions on Interactive Intelligent Systems 5(4)",
            2015,
        ),
        Paper(
            "Gao2022",
            "KuaiRec: A fully-observed dataset and insights for evaluating recommender systems",
            "C. Gao, S. Li, W. Lei, J. Chen, B. Li, P. Jiang, X. He, J. Mao, T.-S. Chua",
            "CIKM",
            2022,
        ),
        Paper(
            "McAuley2015",
            "Image-based recommendations on styles and substitutes",
            "J. McAuley, C. Targett, Q. Shi, A. van den Hengel",
            "SIGIR",
            2015,
        ),
        Paper(
            "Nadeau2003",
            "Inference for the generalization error",
            "C. Nadeau, Y. Bengio",
            "Machine Learning 52(3)",
            2003,
        ),
    )
}
