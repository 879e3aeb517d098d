"""The running sidecar: what knows several parts and joins them. Everything starts in `app.py`.

app.py               the wiring, from the top to the bottom of the line; start and stop in order
forwarders.py        a forwarder and a job for each lane, with the proxies, quotas and limits that they share
maintenance.py       the regular jobs: retention, room on the disk, audit, watchdog
status_collector.py  gathers what every part says of itself into the status document
control_api.py       what the commands ask for; control_socket.py opens where they ask
"""
