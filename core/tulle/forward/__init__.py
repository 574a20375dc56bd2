"""The forwarder: the unprivileged process that moves packets, and the messages tulled steers it with.

messages       what goes over the control socket
python_engine  the reference engine: batches of packets between TUN and UDP
paths          what a path id stands for
main           the process: load, drop rights, serve tulled, run the engine
"""
