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
            "Breiman1995",
            "Better subset regression using the nonnegative garrote",
            "L. Breiman",
            "Technometrics 37(4)",
            1995,
        ),
        Paper(
            "Tipping1998",
            "Probabilistic visualisation of high-dimensional binary data",
            "M. E. Tipping",
            "Advances in Neural Information Processing Systems 11",
            1998,
        ),
        Paper(
            "Platt1999",
            "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods",
            "J. Platt",
            "Advances in Large Margin Classifiers",
            1999,
        ),
        Paper(
            "Scharfstein1999",
            "Adjusting for nonignorable drop-out using semiparametric nonresponse models",
            "D. O. Scharfstein, A. Rotnitzky, J. M. Robins",
            "Journal of the American Statistical Association 94(448)",
            1999,
        ),
        Paper(
            "Koren2009",
            "Matrix factorization techniques for recommender systems",
            "Y. Koren, R. Bell, C. Volinsky",
            "Computer 42(8)",
            2009,
        ),
        Paper(
            "Cremonesi2010",
            "Performance of recommender algorithms on top-N recommendation tasks",
            "P. Cremonesi, Y. Koren, R. Turrin",
            "RecSys",
            2010,
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
            "Zou2020",
            "Counterfactual prediction for bundle treatment",
            "H. Zou, P. Cui, B. Li, Z. Shen, J. Ma, H. Yang, Y. He",
            "NeurIPS",
            2020,
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
            "Rendle2010",
            "Factorization machines",
            "S. Rendle",
            "ICDM",
            2010,
        ),
        Paper(
            "Bonner2018",
            "Causal embeddings for recommendation",
            "S. Bonner, F. Vasile",
            "RecSys",
            2018,
        ),
        Paper(
            "Ma2018",
            "Entire space multi-task model: An effective approach for estimating post-click conversion rate",
            "X. Ma, L. Zhao, G. Huang, Z. Wang, Z. Hu, X. Zhu, K. Gai",
            "SIGIR",
            2018,
        ),
        Paper(
            "Zhang2020",
            "Large-scale causal approaches to debiasing post-click conversion rate estimation with multi-task learning",
            "W. Zhang, W. Bao, X.-Y. Liu, K. Yang, Q. Lin, H. Wen, R. Ramezani",
            "WWW",
            2020,
        ),
        Paper(
            "Liu2020",
            "A general knowledge distillation framework for counterfactual recommendation via uniform data",
            "D. Liu, P. Cheng, Z. Dong, X. He, W. Pan, Z. Ming",
            "SIGIR",
            2020,
        ),
        Paper(
            "Liu2022",
            "KDCRec: Knowledge distillation for counterfactual recommendation via uniform data",
            "D. Liu, P. Cheng, Z. Lin, J. Luo, Z. Dong, X. He, W. Pan, Z. Ming",
            "IEEE Transactions on Knowledge and Data Engineering",
            2022,
        ),
        Paper(
            "Chen2021",
            "AutoDebias: Learning to debias for recommendation",
            "J. Chen, H. Dong, Y. Qiu, X. He, X. Xin, L. Chen, G. Lin, K. Yang",
            "SIGIR",
            2021,
        ),
        Paper(
            "Wang2021",
            "Combating selection biases in recommender systems with a few unbiased ratings",
            "X. Wang, R. Zhang, Y. Sun, J. Qi",
            "WSDM",
            2021,
        ),
        Paper(
            "Chang2010",
            "Training and testing low-degree polynomial data mappings via linear SVM",
            "Y.-W. Chang, C.-J. Hsieh, K.-W. Chang, M. Ringgaard, C.-J. Lin",
            "Journal of Machine Learning Research 11(4)",
            2010,
        ),
        Paper(
            "Steck2010",
            "Training and testing of recommender systems on data missing not at random",
            "H. Steck",
            "KDD",
            2010,
        ),
        Paper(
            "Swaminathan2015",
            "The self-normalized estimator for counterfactual learning",
            "A. Swaminathan, T. Joachims",
            "NeurIPS",
            2015,
        ),
        Paper(
            "Wang2022",
            "ESCM2: Entire space counterfactual multi-task model for post-click conversion rate estimation",
            "H. Wang, T.-W. Chang, T. Liu, J. Huang, Z. Chen, C. Yu, R. Li, W. Chu",
            "SIGIR",
            2022,
        ),
        Paper(
            "Guo2021",
            "Enhanced doubly robust learning for debiasing post-click conversion rate estimation",
            "S. Guo, L. Zou, Y. Liu, W. Ye, S. Cheng, S. Wang, H. Chen, D. Yin, Y. Chang",
            "SIGIR",
            2021,
        ),
        Paper(
            "Ding2022",
            "Addressing unmeasured confounder for recommendation with sensitivity analysis",
            "S. Ding, P. Wu, F. Feng, X. He, Y. Wang, Y. Liao, Y. Zhang",
            "KDD",
            2022,
        ),
        Paper(
            "Salakhutdinov2008",
            "Bayesian probabilistic matrix factorization using Markov chain Monte Carlo",
            "R. Salakhutdinov, A. Mnih",
            "ICML",
            2008,
        ),
        Paper(
            "Albert1993",
            "Bayesian analysis of binary and polychotomous response data",
            "J. H. Albert, S. Chib",
            "Journal of the American Statistical Association 88(422)",
            1993,
        ),
        Paper(
            "Yu2011",
            "To center or not to center: that is not the question. An ancillarity-sufficiency interweaving strategy "
            "(ASIS) for boosting MCMC efficiency",
            "Y. Yu, X.-L. Meng",
            "Journal of Computational and Graphical Statistics 20(3)",
            2011,
        ),
        Paper(
            "Gelman2006",
            "Prior distributions for variance parameters in hierarchical models",
            "A. Gelman",
            "Bayesian Analysis 1(3)",
            2006,
        ),
        Paper(
            "Papandreou2010",
            "Gaussian sampling by local perturbations",
            "G. Papandreou, A. L. Yuille",
            "Advances in Neural Information Processing Systems 23",
            2010,
        ),
        Paper(
            "Williams2001",
            "Using the Nystrom method to speed up kernel machines",
            "C. K. I. Williams, M. Seeger",
            "Advances in Neural Information Processing Systems 13",
            2001,
        ),
        Paper(
            "Dhillon2001",
            "Co-clustering documents and words using bipartite spectral graph partitioning",
            "I. S. Dhillon",
            "KDD",
            2001,
        ),
        Paper(
            "Steck2019",
            "Embarrassingly shallow autoencoders for sparse data",
            "H. Steck",
            "WWW",
            2019,
        ),
        Paper(
            "Nadeau2003",
            "Inference for the generalization error",
            "C. Nadeau, Y. Bengio",
            "Machine Learning 52(3)",
            2003,
        ),
        Paper(
            "Hu2008",
            "Collaborative filtering for implicit feedback datasets",
            "Y. Hu, Y. Koren, C. Volinsky",
            "ICDM",
            2008,
        ),
        Paper(
            "Koren2008",
            "Factorization meets the neighborhood: A multifaceted collaborative filtering model",
            "Y. Koren",
            "KDD",
            2008,
        ),
        Paper(
            "Gopalan2015",
            "Scalable recommendation with hierarchical Poisson factorization",
            "P. Gopalan, J. Hofman, D. Blei",
            "UAI",
            2015,
        ),
        Paper(
            "Wang2019b",
            "The blessings of multiple causes",
            "Y. Wang, D. Blei",
            "Journal of the American Statistical Association 114(528)",
            2019,
        ),
        Paper(
            "Rubin1984",
            "Bayesianly justifiable and relevant frequency calculations for the applied statistician",
            "D. Rubin",
            "Annals of Statistics 12(4)",
            1984,
        ),
        Paper(
            "Tan2006",
            "A distributional approach for causal inference using propensity scores",
            "Z. Tan",
            "Journal of the American Statistical Association 101(476)",
            2006,
        ),
        Paper(
            "Zhao2019",
            "Sensitivity analysis for inverse probability weighting estimators via the percentile bootstrap",
            "Q. Zhao, D. S. Small, B. B. Bhattacharya",
            "Journal of the Royal Statistical Society, Series B 81(4)",
            2019,
        ),
        Paper(
            "Dorn2023",
            "Sharp sensitivity analysis for inverse propensity weighting via quantile balancing",
            "J. Dorn, K. Guo",
            "Journal of the American Statistical Association 118(544)",
            2023,
        ),
    )
}
