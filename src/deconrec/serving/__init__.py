"""`deconrec serve`: a saved model behind HTTP, on this machine alone unless told otherwise.

limits        what a client may ask for, and how long it may take
requests      what a client sends and gets, as pydantic models: unknown fields are refused
problems      every refusal as JSON, without a traceback
ids           raw ids of a request to codes
ranker        a fitted model made ready to answer one user at a time
scores        the scores of one user, by the quickest way that the model allows
log           every list that was served, with its propensities, one line each
served        the log read back, as the table that `deconrec evaluate` reads
holder        the model in use, and its atomic replacement
counters      what /metrics tells
card          what /model tells
service       what the routes do
guard         limits, token and deadlines around the application
app           the routes
run           the server process: socket, signals, slow clients

Needs the extra `serve`; `log` and `served` need nothing.
"""
