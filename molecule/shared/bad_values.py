"""Values that no inventory may have, and odd ones that it may: by variable, several values each."""

from __future__ import annotations

from typing import Any

NUL = "a\0b"
PASSWORD = "q8Zt63nQp0Lk47Vs"
WORKER = {"name": "default"}
SERVICE = {"name": "listener", "command": ["python", "listen.py"]}
TIMER = {"name": "sweep", "command": ["python", "sweep.py"], "schedule": "daily"}
OPENING = {"name": "metrics", "port": 9100, "sources": ["10.0.0.9"]}
LIMIT = {"name": "login", "path": "/login/", "rate": "6r/m"}
PLACE = {"path": "/api/", "config": "return 204;"}
HOOK = {"name": "x", "when": "after_switch", "command": ["true"]}
SOCKET = "/run/slipway/web.sock"

# What each variable is refused for, in the role that its name begins with.
BAD: dict[str, list[Any]] = {
    # base
    "base_app_name": ["Shop", "1shop", "a" * 32, "a b", "shop\n", "../shop", "root"],
    "base_app_uid": [-1, 1, 99, 60000, 4294967295, "600", 1.5],
    "base_packages": [["Libpq"], ["acl; reboot"], ["-y"], [""], ["a\nb"], "acl", [7]],
    "base_timezone": ["Europe/Berlin\n", "../../etc/passwd", "Mars City", "/UTC", " UTC"],
    "base_journald_max_use": ["1 G", "-1G", "0", "lots", "1G\nStorage=none", "1P", 1024],
    "base_sandbox_settings": [
        *(
            {"User": "root"},
            {"user": "root"},
            {"Group": "root"},
            {"ExecStart": "/bin/sh"},
            {"ExecStartPre": "+/bin/sh"},
        ),
        *({"DynamicUser": True}, {"EnvironmentFile": "/etc/shadow"}, {"RootDirectory": "/x"}, {"Restart": "no"}),
        *({"A B": 1}, {"UMask": "0027\nUser=root"}, {"UMask": "0027\\"}, {"UMask": NUL}, ["UMask=0"]),
        *({"AmbientCapabilities": "CAP_SYS_ADMIN"}, {"StandardOutput": "file:/etc/x"}, {"TimeoutStopSec": 1}),
    ],
    # celery
    "celery_application": ["config celery", "config;", "config:", "--app", "a\nb", "config/celery.py"],
    "celery_workers": [
        *([{"name": "beat"}], [{"name": "A"}], [{"name": "a b"}], [WORKER, WORKER], [{"name": ""}], [{"name": "a\n"}]),
        *([WORKER | {"concurrency": 0}], [WORKER | {"concurrency": 100000}], [WORKER | {"concurrency": "2"}]),
        *([WORKER | {"queues": ["a b"]}], [WORKER | {"queues": []}], [WORKER | {"queues": ["a,b"]}]),
        *([WORKER | {"prefetch": -1}], [WORKER | {"max_tasks_per_child": 0}], [WORKER | {"time_limit": 0}]),
        *([WORKER | {"soft_time_limit": -5}], [WORKER | {"time_limit": 10**9}], [WORKER | {"pool": "fork"}]),
        *([WORKER | {"command": []}], [WORKER | {"command": ["sh\n"]}], [WORKER | {"environment": {"A": NUL}}]),
        *([WORKER | {"name": f"w{number}"} for number in range(65)], [WORKER | {"colour": 1}], {"name": "a"}),
    ],
    "celery_beat_scheduler": ["a b", "a;b", "a:", "x\ny", "scheduler()"],
    "celery_task_time_limit": [0, -1, 10**9, "300", None],
    "celery_visibility_timeout": [-1, 10**9, 0.5],
    "celery_cores": [0, -2, 10000],
    "celery_process_memory_mb": [0, -80, 15, 10**9],
    "celery_nice": [-1, 20, -20],
    "celery_writable_paths": [["data"], ["/srv/a b"], ["/srv/../etc"], ["/"], ["/etc"], ["/usr/lib"], ["/srv/x\0"]],
    # django_app
    "django_app_name": ["Shop", "a/b", "-shop", "shop.", "ä"],
    "django_app_source": ["a\nb", NUL],
    "django_app_version": ["-x", "a b", "a..b c", "v1\n", "--upload-pack=x", "a:b"],
    "django_app_archive_checksum": ["md5:0", "sha256:0", "a" * 64, "sha256:" + "g" * 64],
    "django_app_directory": ["/srv", "../x", "a/../../b", "a\0"],
    "django_app_requirements": [["poetry.lock"], ["/etc/x.txt"], ["../x.txt"], ["a.txt", "a.txt"], ["-r base.txt"]],
    "django_app_extras": [["a b"], ["-a"], ["a;b"]],
    "django_app_dependency_groups": [["a b"], ["a\n"], [""]],
    "django_app_python_packages": [["--index-url=http://x"], ["-e ."], ["a\nb"], ["-rfile"]],
    "django_app_index_url": ["pypi", "ftp://x/", "https://", "https://x y/", "file:///x"],
    "django_app_packages": [["Lib X"], ["a|b"], ["x", "-o=y"]],
    "django_app_manage": [[], ["a\nb"]],
    "django_app_files": [
        *(
            [{"path": "../x", "content": "a"}],
            [{"path": "/etc/passwd", "content": "a"}],
            [{"path": "a b", "content": "c"}],
        ),
        *(
            [{"path": "a", "content": NUL}],
            [{"path": "a", "content": "b", "mode": "0666"}],
            [{"path": "a/", "content": "b"}],
        ),
        *([{"path": "a", "content": "b", "mode": "rwx"}], [{"path": "a", "content": "b", "owner": "A B"}]),
        *([{"path": "/usr/bin/x", "content": "b"}], [{"path": "/etc/sudoers.d/x", "content": "b"}], [{"path": "a"}]),
    ],
    "django_app_hooks": [
        *([HOOK | {"name": "a;b"}], [HOOK | {"command": []}], [HOOK | {"timeout": 0}], [HOOK | {"timeout": 10**9}]),
        *([HOOK | {"user": "A B"}], [HOOK | {"directory": "../.."}], [HOOK | {"changed_when": "("}]),
        *([HOOK | {"when": "later"}], [HOOK | {"command": ["a\0"]}]),
    ],
    "django_app_static_root": ["/srv/static", "src", "venv", "a/../b", "", "static\n"],
    "django_app_static_root_variable": ["A B", "1A", "A-B", "A=B"],
    "django_app_migrate_lock_timeout": [0, -1, 10**6],
    "django_app_migrate_statement_timeout": [-1, 10**9],
    "django_app_migrate_attempts": [0, 101, -1],
    "django_app_migrate_timeout": [0, 10**9],
    "django_app_writable_paths": [["x"], ["/srv/../etc"], ["/etc/ssh"], ["/proc/sys"], ["/"]],
    "django_app_python_version": ["2.7", "python3", "3"],
    # firewall
    "firewall_ssh_port": [0, 65536, -22, "22"],
    "firewall_ssh_sources": [[], ["home"], ["10.0.0.1/33"], ["10.0.0.5/8"], ["*"]],
    "firewall_allow": [
        *(
            [OPENING | {"port": 0}],
            [OPENING | {"port": 70000}],
            [OPENING | {"port": "9-1"}],
            [OPENING | {"port": "http"}],
        ),
        *([OPENING | {"sources": []}], [OPENING | {"sources": ["office"]}], [OPENING | {"name": 'a"b'}]),
        *([OPENING | {"name": "x" * 61}], [OPENING | {"protocol": "icmp"}]),
    ],
    "firewall_extra_rules": [
        *(["flush ruleset"], ["delete table inet filter"], ["add rule inet filter input accept"], ['include "/x"']),
        *(["accept"], ["drop"], ["counter accept"], ["ip saddr 10.0.0.1 drop; accept"], ["ip saddr { 10.0.0.1 drop"]),
        *(["ip saddr 10.0.0.1 drop } chain x {"], ["a # b"], ["a\nb"], ["destroy table x"], ["  flush chain inet x"]),
    ],
    "firewall_confirm_seconds": [0, 19, 601, -60],
    # gunicorn
    "gunicorn_application": ["config wsgi", "config.wsgi:application()", "a;b", "config/wsgi.py:app"],
    "gunicorn_listen": [
        ["0.0.0.0"],
        ["10.0.0.1:99999"],
        ["10.0.0.1:0"],
        [],
        ["relative.sock"],
        ["/run/../x"],
        [SOCKET, SOCKET],
    ],
    "gunicorn_workers": [-1, 1025, "4", 2.5],
    "gunicorn_worker_class": ["gunicorn", "sync;", "a b", "Sync"],
    "gunicorn_warm_up": [["/healthz"], ["https://x"], ["ftp://x/"], ["http://x/a\nb"]],
    "gunicorn_threads": [0, -1, 257],
    "gunicorn_worker_connections": [0, 70000],
    "gunicorn_timeout": [0, -1, 86401, "30s"],
    "gunicorn_graceful_timeout": [0, -1, 100000],
    "gunicorn_start_timeout": [0, 3601],
    "gunicorn_max_requests": [-1, 10**10],
    "gunicorn_max_requests_jitter": [-1],
    "gunicorn_cores": [0, -4],
    "gunicorn_memory_mb": [0, -9999, 10**8],
    "gunicorn_worker_memory_mb": [0, 15, -150],
    "gunicorn_database_connections": [-1],
    "gunicorn_worker_database_connections": [0],
    "gunicorn_writable_paths": [["tmp"], ["/boot/x"], ["/a b"]],
    # hardening
    "hardening_ssh_settings": [
        *({"Match": "all"}, {"Include": "/x"}, {"Port": 2222}, {"PermitEmptyPasswords": "yes"}, {"a b": 1}),
        *({"AuthorizedKeysFile": "/x"}, {"pubkeyauthentication": "no"}, {"MaxAuthTries": "3\nPort 1"}),
    ],
    "hardening_sysctl_settings": [
        *(
            {"kernel.core_pattern": "|/bin/sh"},
            {"net.core.somaxconn =": 1},
            {"kernel.modprobe": "/x"},
            {"vm.swappiness": "1\n2"},
        ),
    ],
    "hardening_swap_size": [-1, 15, 65537, 1073741824, "1G"],
    "hardening_upgrades_excluded": [["A"], ["a b"], ["-x"]],
    "hardening_restarts_excluded": [["a b"], ["-x"], ["a/b"]],
    # nginx
    "nginx_http_port": [0, -80, 65536, "80"],
    "nginx_tls_port": [0, 99999],
    "nginx_status_port": [0, 70000],
    "nginx_hsts_seconds": [-1, 10**10],
    "nginx_static_url": ["static/", "/static", "/", "https://cdn/static/", "/st atic/"],
    "nginx_media_url": ["media/", "/media", "/"],
    "nginx_media_root": ["media", "/srv/../etc", "/etc", "/root/x", "/srv/m/"],
    "nginx_static_fingerprint": ["(", 'a"b', "a b", "[0-9"],
    "nginx_denied_locations": [["internal"], ["/a\nb"], ['~ a"b']],
    "nginx_unbuffered_locations": [["events/"], ["/a\n/"], ["/e/", "/e/"]],
    "nginx_unbuffered_timeout": [0, -1],
    "nginx_client_max_body_size": ["10 m", "-1m", "10mb", "lots", "10g;"],
    "nginx_proxy_timeout": [0, -1, 10**6],
    "nginx_short_cache_seconds": [-1],
    "nginx_worker_connections": [0, 63, 10**7],
    "nginx_maintenance_allowed": [["office"], ["10.0.0.1/33"]],
    "nginx_maintenance_retry_after": [0],
    "nginx_leave_seconds": [-1, 601],
    "nginx_health_path": ["healthz", "/a\nb", '/a"b', "http://x/"],
    "nginx_trusted_proxies": [["0.0.0.0/0"], ["::/0"], ["cdn"], ["10.0.0.5/24"]],
    "nginx_trusted_proxies_urls": [["http://x/"], ["https://"], ["list.txt"]],
    "nginx_real_ip_header": ["X Forwarded", "x:y", "1a", "X_Real_IP"],
    "nginx_origin_secret_header": ["a b", "X-Secret:"],
    "nginx_security_headers": [
        {"A B": "x"},
        {"X-A": 'a"b'},
        {"X-A": "a\nb"},
        {"Set-Cookie": "a=b"},
        {"Server": "x"},
        {"X-A": "$x"},
    ],
    "nginx_page_headers": [{"Content-Length": "1"}, {"X:": "y"}, {"X-A": "a\\"}],
    "nginx_cache_locations": [["shop/"], ["/a\n/"]],
    "nginx_cache_seconds": [-1, 10**9],
    "nginx_cache_bypass_cookies": [[], ["a=b"], ["a b"]],
    "nginx_cache_size": ["0m", "256", "1t", "lots"],
    "nginx_rate_limits": [
        *([LIMIT | {"rate": "6"}], [LIMIT | {"rate": "0r/s"}], [LIMIT | {"rate": "6r/h"}], [LIMIT | {"burst": 0}]),
        *([LIMIT | {"path": "login"}], [LIMIT | {"methods": ["post"]}], [LIMIT, LIMIT], [LIMIT | {"name": "Log in"}]),
    ],
    "nginx_connections_per_address": [-1],
    "nginx_retry_after": [0, -1],
    "nginx_client_timeout": [0, 4000],
    "nginx_redirects": [
        *([{"path": "old", "to": "/new"}], [{"path": "/old", "to": "new"}], [{"path": "/a\nb", "to": "/c"}]),
        *(
            [{"path": "/a", "to": "/$uri"}],
            [{"path": "/a", "to": "javascript:x"}],
            [{"path": "/a", "to": "/b", "status": 200}],
        ),
    ],
    "nginx_extra_locations": [
        *(
            [PLACE | {"config": "return 204; } location / {"}],
            [PLACE | {"config": "return 204"}],
            [PLACE | {"config": "{"}],
        ),
        *([PLACE | {"path": "/a {"}], [PLACE | {"path": "= /a; x"}], [PLACE | {"config": 'return 200 "x;'}]),
    ],
    "nginx_extra_servers": [
        *([{"name": "x", "config": "listen 80 default_server;"}], [{"name": "x", "config": "listen 81; }"}]),
        *([{"name": "a\nb", "config": "listen 81;"}],),
    ],
    "nginx_extra_upstreams": [
        [{"name": "a b", "servers": ["x:1"]}],
        [{"name": "a", "servers": []}],
        [{"name": "a", "servers": ["x:1;"]}],
    ],
    "nginx_sandbox_settings": [{"User": "root"}, {"ExecReload": "/x"}, {"x": 1}],
    "nginx_writable_paths": [["srv"], ["/"], ["/usr/share/nginx"]],
    # patch, pgbouncer
    "patch_reboot_timeout": [0, 9, -1, 10**6],
    "patch_reboot_command": [["a\nb"]],
    "pgbouncer_port": [0, 65536],
    "pgbouncer_listen_addresses": [["*"], ["0.0.0.0"], ["::"], [], ["a b"], ["127.0.0.1", "127.0.0.1"]],
    "pgbouncer_allowed_clients": [["app1"], ["0.0.0.0/0"]],
    "pgbouncer_default_pool_size": [0, -1, 1001],
    "pgbouncer_max_client_conn": [0, 20001],
    "pgbouncer_max_prepared_statements": [-1, 10001],
    "pgbouncer_tls_key": ["key.pem", "/etc/../x", "/a\0"],
    # postgresql
    "postgresql_database": ["a; drop table b", "A", "1a", "a" * 64, "a-b"],
    "postgresql_user": ["postgres", "pg_x", "A", 'a"b'],
    "postgresql_port": [0, -1, 65536, "5432"],
    "postgresql_listen_addresses": [["*"], ["0.0.0.0"], ["::"], [], ["a b"], ["10.0.0.300"], "127.0.0.1"],
    "postgresql_allowed_clients": [["0.0.0.0/0"], ["::/0"], ["app1"], ["10.0.0.1/33"], ["10.0.0.1 trust"]],
    "postgresql_extensions": [["pg trgm"], ["a;b"], ["A"], ["a", "a"]],
    "postgresql_packages": [["a b"], ["-y"]],
    "postgresql_max_connections": [0, 9, 5001, -100],
    "postgresql_memory_mb": [0, -9999, 64],
    "postgresql_cores": [0, -1],
    "postgresql_settings": [
        *({"listen_addresses": "*"}, {"port": 1}, {"ssl": "off"}, {"hba_file": "/x"}, {"fsync": "off"}, {"a b": 1}),
        *(
            {"password_encryption": "md5"},
            {"work_mem": "1\n2"},
            {"include": "/x"},
            {"max_connections": 1},
            {"work_mem": NUL},
        ),
        *(
            {"data_directory": "/x"},
            {"full_page_writes": "off"},
            {"unix_socket_directories": "/x"},
            {"ssl_key_file": "/x"},
        ),
    ],
    "postgresql_slot_keep_mb": [0, 255, -1],
    "postgresql_tls_names": [["a b"], ["-x"]],
    "postgresql_sandbox_settings": [{"User": "root"}, {"ExecStart": "/x"}],
    # processes
    "processes_services": [
        *(
            [SERVICE | {"name": "A"}],
            [SERVICE | {"name": "web"}],
            [SERVICE | {"command": []}],
            [SERVICE | {"user": "root"}],
        ),
        *([SERVICE | {"directory": "../x"}], [SERVICE | {"stop_timeout": 0}], [SERVICE | {"command": ["a\nb"]}]),
        *([SERVICE | {"ready": "yes"}], [SERVICE | {"command": ["-x"]}], [SERVICE | {"user": "no body"}]),
    ],
    "processes_timers": [
        *([TIMER | {"schedule": "sometimes"}], [TIMER | {"schedule": "25:00"}], [TIMER | {"schedule": "*:60"}]),
        *([TIMER | {"schedule": "* * * * *"}], [TIMER | {"schedule": "daily\n"}], [TIMER | {"schedule": "Mun 02:30"}]),
        *(
            [TIMER | {"schedule": "*-13-01"}],
            [TIMER | {"timeout": 0}],
            [TIMER | {"schedule": "*:0/0"}],
            [TIMER | {"schedule": ";"}],
        ),
    ],
    "processes_directory": ["/srv", "../x", "a/", "a b"],
    # redis
    "redis_listen_addresses": [["*"], ["0.0.0.0"], ["::"], [], ["a b"]],
    "redis_broker_port": [0, -5, 65536],
    "redis_cache_port": [0, 6379, 99999],
    "redis_broker_user": ["default", "a b", "", "a:b"],
    "redis_admin_user": ["default", "celery", "a>b"],
    "redis_broker_memory_mb": [0, 15, -256, 10**8],
    "redis_cache_memory_mb": [0, -1],
    "redis_broker_databases": [0, 2, 10001],
    "redis_cache_databases": [0, -1],
    "redis_broker_password": [f"{PASSWORD}\0", f"{PASSWORD}\n", "short"],
    "redis_broker_acl_rules": [
        ["+config"],
        ["+@all"],
        ["+acl|setuser"],
        ["nopass"],
        [">password"],
        ["+keys +acl"],
        ["+KEYS"],
    ],
    "redis_cache_acl_rules": [
        ["+@admin"],
        ["+@dangerous"],
        ["+shutdown"],
        ["on"],
        ["~*"],
        ["+keys\0"],
        ["&a b"],
        "+keys",
    ],
    "redis_store_acl_rules": [["+migrate"], ["+client|kill"], ["reset"], ["allcommands"], ["#" + 64 * "0"], [""]],
    "redis_store_port": [0, 65536],
    "redis_store_user": ["default", "a b", ""],
    "redis_store_memory_mb": [0, 15, 10**8],
    "redis_store_databases": [0, 10001],
    "redis_sandbox_settings": [{"User": "root"}],
    # release
    "release_health_path": ["healthz", "/a\0", "/a\n"],
    "release_health_status": [0, 99, 600, "200"],
    "release_smoke_paths": [
        [{"path": "x"}],
        [{"path": "/", "status": 700}],
        [{"path": "/", "contains": NUL}],
        [{"path": "/a\tb"}],
    ],
    "release_keep": [0, 1, -5, 10**6],
    "release_probe_timeout": [0, -1, 601],
    "release_probe_attempts": [0, 1001],
    "release_lock_minutes": [0, -1, 10**6],
    "release_name": ["latest", "0123", "0123456789AB", "../x"],
    # tls
    "tls_names": [["a b"], ["https://a"], ["a.example:443"], ["a\n"]],
    "tls_port": [0, 65536],
    "tls_expiry_days": [0, 1, 61],
    "tls_acme_directory": ["http://x/", "x", "https://"],
    "tls_acme_email": ["me", "a@b", "a b@c.d"],
    "tls_acme_ca_bundle": ["ca.pem", "/a\0"],
    "tls_acme_dns_environment": [{"KEY": NUL}],
}

# What the wiring is refused for, by playbooks/plugins/topology_options.yml.
BAD_WIRING: dict[str, list[Any]] = {
    "topology_system_memory_mb": [-9999, 0, 63, 10**9, "256", 1.5],
    "topology_memory_mb": [0, -1, 64, 10**9],
    "topology_cores": [0, -1, 10**6],
    "topology_disk_mb": [0, -1, 10**12],
    "topology_app_port": [0, 65536, "8000"],
    "topology_address": ["a b", "10.0.0.300", "http://x", ""],
    "topology_database_primary": ["a b", NUL],
    "topology_reserved_connections": [0, -10, 10**6],
    "topology_pool_connections": [-1],
    "topology_weights": [{"database": -40}, {"databse": 40}, {"app": "30"}, {"app": 0}],
    "topology_disk_needs": [{"database": -1}, {"cache": 1}],
    "topology_plain_secrets": ["maybe", "yes"],
    "topology_offline": ["yes", 1],
    "topology_internal_tls": ["on"],
    "topology_site": ["a b", "1x"],
    "ansible_port": [0, 99999, -22, "ssh"],
    "ansible_host": ["10.0.0.300", "a b", "ssh://x", "10.0.0.1:22"],
    "topology_memory": [1024],
    "topology_adress": ["10.0.0.5"],
}

# Odd values that are right.
GOOD: dict[str, list[Any]] = {
    "base_app_uid": [0, 100, 59999],
    "base_journald_max_use": ["512M", "1", "2T"],
    "base_packages": [["g++", "libstdc++6", "python3.11-venv"]],
    "base_timezone": ["America/Argentina/Buenos_Aires", "Etc/GMT+5", "UTC", ""],
    "base_sandbox_settings": [
        {"MemoryDenyWriteExecute": False, "RestrictAddressFamilies": ["AF_UNIX AF_INET"]},
        {"UMask": "0022"},
    ],
    "celery_application": ["config", "a.b.c:app", "pkg.celery:factory.app"],
    "celery_workers": [
        [WORKER | {"concurrency": 512, "queues": ["a.b:c-d", "x"], "prefetch": 0}],
        [WORKER | {"command": ["sh", "-c", "echo \"ä $x 100%\" 'q'"], "environment": {"A": "ü % \" '", "B": ""}}],
    ],
    "celery_task_time_limit": [1, 300],
    "celery_nice": [0, 19],
    "celery_writable_paths": [["/srv/data", "/var/lib/x/y.z", "-/mnt/backup"]],
    "django_app_files": [
        [{"path": "a.json", "content": ""}, {"path": "/etc/shop/ä.conf", "content": "% \" ' $x\n\n", "mode": "0600"}]
    ],
    "django_app_hooks": [[HOOK | {"changed_when": "made [0-9]+", "timeout": 86400, "directory": "assets"}]],
    "django_app_python_packages": [["ara[server]==1.8.0", "a @ https://x/y.whl ; python_version < '3.13'"]],
    "django_app_environment": [
        {"A": "ä % $x \\ \" '", "B_2": "", "C": "{{ '{{' }}", "PEM": "-----BEGIN X-----\n\tA\n"}
    ],
    "django_app_static_root_variable": ["", "STATIC_ROOT_2"],
    "firewall_allow": [[OPENING | {"port": "60000-60100", "protocol": "udp", "sources": ["2001:db8::/32"]}]],
    "firewall_extra_rules": [["ip saddr 192.0.2.7 drop", "tcp dport { 1, 2 } accept", "ip saddr @x counter drop"]],
    "firewall_ssh_sources": [["0.0.0.0/0", "::/0"], ["10.0.0.5", "2001:db8::5"]],
    "gunicorn_listen": [[SOCKET], [SOCKET, "10.0.0.5:8000"], ["[2001:db8::5]:8000"], ["8000"]],
    "gunicorn_workers": [0, 1, 1024],
    "gunicorn_timeout": [1, 86400],
    "hardening_ssh_settings": [{"AllowTcpForwarding": "no", "PerSourcePenaltyExemptList": "192.0.2.0/24"}],
    "hardening_sysctl_settings": [{"net.ipv4.conf.all.rp_filter": 1, "net.ipv4.ip_local_port_range": "1024\t65000"}],
    "hardening_swap_size": [0, 16, 65536],
    "nginx_client_max_body_size": ["0", "512k", "5G", "1048576"],
    "nginx_extra_locations": [
        [PLACE | {"config": '# }\nif ($x = "{") {\n  return 204;\n}'}],
        [PLACE | {"path": "~* [.]PHP$", "config": 'proxy_set_header X "${host} ä";'}],
    ],
    "nginx_redirects": [[{"path": "/alt/ä", "to": "https://a.example/%20?x=1"}]],
    "nginx_security_headers": [{"Content-Security-Policy": "default-src 'none'; img-src 'self' data:"}],
    "nginx_rate_limits": [[LIMIT | {"burst": 1}, LIMIT | {"name": "b", "rate": "100r/s", "methods": ["GET"]}]],
    "postgresql_settings": [
        {"work_mem": "64MB", "shared_preload_libraries": "pg_stat_statements,auto_explain", "pg_x.y": "a 'b'"}
    ],
    "postgresql_allowed_clients": [["10.0.0.5", "10.0.0.0/8", "2001:db8::5"]],
    "postgresql_max_connections": [10, 5000],
    "processes_services": [[SERVICE | {"directory": "/srv/data", "environment": {"A": "ä"}, "user": "www-data"}]],
    "processes_timers": [
        [TIMER | {"schedule": schedule}]
        for schedule in (
            *(
                "hourly",
                "Mon..Fri 02:30",
                "*:0/5",
                "*-*-01 04:00:00",
                "Sat,Sun *-*-* 10:00",
                "*-*~03",
                "2026-12-31 23:59",
            ),
            *("Mon *-*-* 00:00:00 Europe/Berlin", "*:*:0/20", "daily UTC", "Tue", "9..17:00", "*-1,7-1 00:00", "02:30"),
        )
    ],
    "redis_broker_password": [" a'b\"c@d%e#f$g{h}i/j:k?l&m=n+o\\p`q;ä€ "],
    "redis_cache_acl_rules": [
        ["+keys", "+@pubsub", "&channel:*", "-@scripting", "allchannels", "+object|freq", "+flushall"]
    ],
    "release_keep": [2, 1000],
    "release_smoke_paths": [[{"path": "/suche/?q=ä%20b", "contains": 'Größe "100%"'}]],
    "tls_acme_email": ["", "a.b+c@example.co.uk"],
}
