"""One file per public data set: it finds the published files, parses them, and checks the published counts.

Nothing here downloads (see `deconrec.data.fetch`) and nothing is bundled: each data set has its own licence.
"""
