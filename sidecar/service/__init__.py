"""The running sidecar: what knows several parts and joins them. Everything starts in `app.py`.

app.py               the wiring, from the top to the bottom of the line; start and stop in order
reloader.py          another configuration while it runs; this host's address, where it changes
forwarders.py        a forwarder and a job for each lane: what it reads (lane_source.py), what it may send (quotas.py),
                     where to (proxies.py)
maintenance.py       the regular jobs: retention, capacity, audit, watchdog
status_collector.py  puts together what every part says of itself; run_state.py is what is known of the run
control_api.py       what the commands ask for (control_messages.py); control_socket.py opens where they ask
state_lock.py        one sidecar for each state directory, whose files paths.py names; instance.py is its own id
"""
