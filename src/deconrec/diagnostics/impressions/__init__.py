"""The doctor of impression logs: the entire space is the table of impressions, o the click, r the conversion."""
