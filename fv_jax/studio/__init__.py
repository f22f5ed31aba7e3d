"""A page, and the small HTTP server behind it, that show how a video comes about.

server.py   requests in, answers out; who may ask
asked.py    what a request's JSON says, checked before anything runs
jobs.py     one thread that has JAX, jobs in turn, what each job has told so far
videos.py   a video is made: its events, its pixels, its files
streams.py  frames without end
uploads.py  a file of a video or picture becomes a few frames of the model's size
static/     the page: plain HTML, CSS and JavaScript
"""
