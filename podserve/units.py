"""The texts of systemd's units, with names in braces for what podserve.systemd fills in.

https://docs.podman.io/en/latest/markdown/podman-systemd.unit.5.html
"""

NETWORK = """\
[Unit]
Description=Network of the pod {pod}

[Network]
NetworkName={pod}
# Podman's own DNS would hold port 53 of the gateway's address.
DisableDNS=true
IPv6={ipv6}
"""
POD = """\
[Unit]
Description=PodServe {pod}: web, mail and DNS for {domain}
{network_online}
# systemd retries without a limit, because the network may come up late.
StartLimitIntervalSec=0

[Kube]
Yaml={folder}/podserve.yaml
ConfigMap={folder}/config.yaml
Network={network}
{log}

[Service]
{environment}
Restart=always
RestartSec=1
TimeoutStartSec={timeout}

[Install]
WantedBy={target}
"""
NETWORK_ONLINE = """\
Wants=network-online.target
After=network-online.target"""
NO_WAITING = """
[Quadlet]
# Quadlet would wait 90 s for the system's network-online.target, which on many hosts nothing ever starts.
DefaultDependencies=false"""
"""The replacement in a user's unit: systemd's user manager does not know whether the network is up."""
RENEWAL = """\
[Unit]
Description=Certificates of {pod}, renewed when they are due
Wants=network-online.target
After=network-online.target {pod}.service

[Service]
Type=oneshot
WorkingDirectory={root}
{environment}
ExecStart={root}/.venv/bin/invoke certs.renew
"""
RENEWAL_TIMER = """\
[Unit]
Description=Certificates of {pod}, checked every day

[Timer]
OnCalendar=daily
# Spread over six hours. If the machine was off at that time, the timer runs at the next start.
RandomizedDelaySec=6h
Persistent=true

[Install]
WantedBy=timers.target
"""
WATCH = """\
[Unit]
Description=Problems of {pod}, mailed to its postmaster
After={pod}.service

[Service]
Type=oneshot
WorkingDirectory={root}
{environment}
ExecStart={root}/.venv/bin/invoke status --tell
# The exit status if there is a problem.
SuccessExitStatus=1
"""
WATCH_TIMER = """\
[Unit]
Description=Problems of {pod}, looked for every hour

[Timer]
OnCalendar=hourly
RandomizedDelaySec=10m

[Install]
WantedBy=timers.target
"""
