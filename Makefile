# Slipway's commands. Each brings what it needs: Debian packages, .venv, test hosts.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
DEMO_PORT ?= 8080
DEV_PORT ?= 8000
HOSTS ?= 100

# An operator's control node.
CONTROL_PACKAGES := ca-certificates openssh-client python3-venv
# Test hosts are containers. netavark drives iptables or nftables, whichever the release's version knows.
HOST_PACKAGES := aardvark-dns debian-archive-keyring iptables mmdebstrap netavark nftables podman runc
# libatomic1 is what Playwright's driver needs and does not bring.
BROWSER_PACKAGES := chromium libatomic1

export LC_ALL := C.UTF-8
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DEMO_PORT
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

# pip, uv and requests bring certificate authorities of their own; the machine's store has the locally added ones too.
CA_BUNDLE := $(wildcard /etc/ssl/certs/ca-certificates.crt)
ifneq ($(CA_BUNDLE),)
export SSL_CERT_FILE ?= $(CA_BUNDLE)
export PIP_CERT ?= $(CA_BUNDLE)
export REQUESTS_CA_BUNDLE ?= $(CA_BUNDLE)
endif

LOCK := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"
REPORTS := .cache/reports
STAGES := .cache/stages
# $(call stage,NAME,COMMAND): runs the command and notes the seconds it took.
stage = @$(2); printf '%-18s %5d s\n' '$(1)' $$SECONDS >>$(STAGES)

.PHONY: help
help: ## List these commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

define DEMO_SUMMARY
A bare Debian 12 is now PostgreSQL, two Redis, gunicorn, Celery and Nginx, with the magazine of app/ on them.

Site    http://127.0.0.1:$(DEMO_PORT)/
Login   http://127.0.0.1:$(DEMO_PORT)/admin/ as admin, with the password that `make demo-password` shows
Mail    register on the site; the worker writes the mail to /var/lib/slipway/mail on the host
Host    podman exec -it slipway-demo-demo bash (as root), and there: systemctl status 'slipway-*'
Remove  make demo-down
endef
export DEMO_SUMMARY

.PHONY: demo demo-down demo-password dev dev-services lab soak bench-static bench-hardening bench-plan
demo: ## Make a local host and deploy everything on it with the bundled app (DEMO_PORT=8080)
	@mkdir -p .cache; rm -f $(STAGES)
	$(call stage,bootstrap,$(MAKE) --no-print-directory test-hosts)
	$(call stage,host,ansible-playbook -i dev/demo molecule/shared/create.yml)
	$(call stage,secrets,ansible-playbook -i dev/demo playbooks/secrets.yml)
	$(call stage,site,ansible-playbook -i dev/demo playbooks/site.yml)
	$(call stage,demo data,ansible-playbook -i dev/demo playbooks/_seed_demo.yml)
	@echo; cat $(STAGES); echo; echo "$$DEMO_SUMMARY"

demo-down: test-hosts ## Remove the demo's host
	@ansible-playbook -i dev/demo molecule/shared/destroy.yml

lab: bootstrap ## Measure the techniques of the bundled application on the demo's host, with 10,000 posts
	@ansible app -i dev/demo --become --module-name ansible.builtin.command \
	    --args "/usr/local/sbin/slipway-manage seed_demo --posts 10000 --comments 100000"
	@ansible app -i dev/demo --become --module-name ansible.builtin.command --args "/usr/local/sbin/slipway-manage lab"

soak: test-tools ## Deploy under load on the demo's host, and count the requests that fail (SOAK="--rate 40 --deploys 10")
	@.venv/bin/python dev/soak/soak.py $(SOAK)

bench-static: bootstrap ## Static files on the demo's host: the deployed Nginx next to one as its package configures it
	@ansible edge -i dev/demo --become --module-name ansible.builtin.copy \
	    --args "src=dev/bench/static dest=/root/bench-static mode=0755" >/dev/null
	@ansible edge -i dev/demo --become --module-name ansible.builtin.command --args "/root/bench-static slipway localhost"

bench-hardening: bootstrap ## Lynis, ANSSI BP-028 and ssh-audit on the demo's host; installs the tools there
	@ansible edge -i dev/demo --become --module-name ansible.builtin.copy \
	    --args "src=dev/bench/hardening dest=/root/bench-hardening mode=0755" >/dev/null
	@ansible edge -i dev/demo --become --module-name ansible.builtin.command --args /root/bench-hardening

bench-plan: .venv/complete ## How long the plan and preflight take for an inventory of many hosts (HOSTS=100)
	@rm -rf .cache/bench-plan && .venv/bin/python dev/bench/hosts.py .cache/bench-plan $(HOSTS)
	@for playbook in plan_capacity preflight; do \
	    start=$$(date +%s%N); \
	    ansible-playbook -i .cache/bench-plan/hosts.json playbooks/$$playbook.yml >.cache/bench-plan/$$playbook.log || \
	        { tail -n 40 .cache/bench-plan/$$playbook.log; exit 1; }; \
	    printf '%-13s %d hosts  %5.1f s\n' $$playbook $(HOSTS) "$$(($$(date +%s%N) - start))e-9"; \
	done

demo-password: ## Show the password of the demo's login
	@sed -n 's/^vault_demo_admin_password: "\(.*\)"/\1/p' dev/demo/group_vars/all/vault.yml

# The app on this machine, with the packages of its tests, on the services of the dev host.
APP_PYTHON := set -a; . .cache/dev.env; set +a; cd app; ../.cache/app-venv/bin/python

dev: dev-services .cache/app-venv/complete ## Serve the app from app/ on this machine, reloaded when it changes (DEV_PORT=8000)
	@$(APP_PYTHON) manage.py migrate --verbosity 0
	@$(APP_PYTHON) manage.py seed_demo --admin admin
	@echo "Log in at http://127.0.0.1:$(DEV_PORT)/admin/ as admin; the password is DEMO_ADMIN_PASSWORD in .cache/dev.env"
	@$(APP_PYTHON) manage.py runserver 127.0.0.1:$(DEV_PORT)

dev-services: test-hosts ## Make a host with PostgreSQL and Redis for the app; their addresses go to .cache/dev.env
	@ansible-playbook -i dev/services molecule/shared/create.yml
	@ansible-playbook -i dev/services playbooks/secrets.yml
	@ansible-playbook -i dev/services playbooks/_dev_services.yml

# Fast ones first, one after the other: they count what is lost under load. Those of PAIRED can share the machine.
LAYERS := unit app default release edge upgrade
PAIRED := cluster apps tls
# It ends with a new line, so that each layer is a command of its own.
define one_layer
$(call stage,$(1),$(MAKE) --no-print-directory test-$(1))

endef
.PHONY: lint test $(LAYERS:%=test-%) $(PAIRED:%=test-%) test-control
lint: .venv/tests ## Check the style of YAML, playbooks and Python
	@yamllint --strict .
	@ansible-lint
	@ruff check .
	@ruff format --check .

test: ## All of it: lint and every layer of tests
	@mkdir -p .cache; rm -rf $(REPORTS) $(STAGES)
	$(call stage,lint,$(MAKE) --no-print-directory lint)
	$(foreach layer,$(LAYERS),$(call one_layer,$(layer)))
	$(call stage,$(PAIRED),$(MAKE) --no-print-directory --jobs 2 --output-sync=target $(PAIRED:%=test-%))
	@echo; cat $(STAGES); echo; \
	total=0; \
	for layer in $(LAYERS) $(PAIRED); do \
	    tests=$$(grep -o ' tests="[0-9]*"' $(REPORTS)/$$layer.xml | head -n 1 | tr -dc 0-9); total=$$((total + tests)); \
	    printf '%-18s %5d tests\n' $$layer $$tests; \
	done; \
	echo "$$total passed, 0 failed"

test-unit: .venv/tests ## Policy, plugins and templates, without hosts
	@# What the tests of a file share, a run of preflight over many hosts, is made once.
	@pytest tests/unit --numprocesses 2 --dist loadfile --junitxml=$(REPORTS)/unit.xml

test-app: dev-services .cache/app-venv/complete ## The bundled app, on the PostgreSQL and Redis of `make dev-services`
	@# Much of it is waiting for workers and leases: more processes than cores.
	@$(APP_PYTHON) -m pytest --numprocesses 3 --junitxml=$(CURDIR)/$(REPORTS)/app.xml

test-default: test-tools ## Molecule: the whole stack on Debian 12 and Debian 13
	@molecule/shared/install-packages $(BROWSER_PACKAGES)
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/default molecule test -s default

test-release: test-tools ## Molecule: releases on two servers under load, refused, taken back, killed and gone back to
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/release molecule test -s release

test-edge: test-tools ## Molecule: two Nginx behind a CDN and in front of two servers, drained, closed, flooded and killed
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/edge molecule test -s edge

test-apps: test-tools ## Molecule: three applications that are not ours, and roles in a play outside of the repository
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/apps molecule test -s apps

test-tls: test-tools ## Molecule: certificates of an authority, of files and of our own; protocols and what they are weighed by
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/tls molecule test -s tls

test-control: test-tools ## Molecule: a control node on Debian 13, with the newest Ansible, sets up another host
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/control molecule test -s control

test-cluster: test-tools ## Molecule: one site on eight servers
	@molecule/shared/install-packages $(BROWSER_PACKAGES)
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/cluster molecule test -s cluster

test-upgrade: test-tools ## Molecule: a site of the version before, upgraded under load
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/upgrade molecule test -s upgrade

.PHONY: test-all test-long test-move
test-all: test test-long ## All of it, and what takes too long for every run

# $(call long,SCENARIO,MARKERS,FOLDERS): the tests of a scenario that are not for every run.
define long
@export MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/$(1); \
molecule destroy -s $(1); \
molecule converge -s $(1); \
ANSIBLE_VAULT_PASSWORD_FILE=$(CURDIR)/molecule/shared/vault-password pytest $(3) -m '$(2)' \
    --connection ansible --ansible-inventory $(CURDIR)/molecule/$(1)/inventory --junitxml=$(REPORTS)/long-$(1).xml; \
molecule destroy -s $(1)
endef

test-long: test-tools test-move test-control ## Molecule: what is killed at each of its tasks, a site that moves, eight hosts restarted, and more of the kind
	$(call long,release,long,tests/hosts/release)
	$(call long,cluster,disruptive or long,tests/hosts/site tests/hosts/cluster)

test-move: test-tools ## Molecule: a site on one server moves its database and Redis to another
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/move molecule test -s move

.PHONY: docs lock audit clean
docs: .venv/complete ## Write the tables of the roles' README files and playbooks/README.md
	@.venv/bin/python dev/role_tables.py
	@.venv/bin/python dev/playbook_table.py

lock: .venv/complete ## Pin the newest versions that fit: of the tools here, of the tests and of the app
	$(LOCK) requirements.in --output-file requirements.txt
	$(LOCK) requirements-test.in --constraints requirements.txt --output-file requirements-test.txt
	$(LOCK) requirements-mitogen.in --output-file requirements-mitogen.txt
	$(LOCK) molecule/tls/sslyze.in --output-file molecule/tls/sslyze.txt
	$(LOCK) dev/audit.in --output-file dev/audit.txt
	$(LOCK) roles/django_app/files/uv.in --output-file roles/django_app/files/uv.txt
	$(LOCK) app/pyproject.toml --output-file app/requirements.txt
	$(LOCK) app/pyproject.toml --group app/pyproject.toml:profile --output-file app/requirements-profile.txt
	$(LOCK) app/pyproject.toml --group app/pyproject.toml:test --output-file app/requirements-test.txt

audit: .cache/audit-venv/complete ## Look for known advisories of the packages in all locks (AUDIT="options of pip-audit")
	@.cache/audit-venv/bin/python dev/audit.py $(AUDIT)

clean: ## Remove .venv and caches; test hosts, their images and keys stay
	rm -rf .venv .cache .ansible .pytest_cache .ruff_cache

# What the commands stand on

.PHONY: bootstrap mitogen test-hosts test-tools control-packages host-packages
bootstrap: .venv/complete ## Install what a control node needs: Debian packages and .venv

mitogen: bootstrap ## Add Mitogen to .venv, an optional accelerator of Ansible
	@uv pip install --quiet --python .venv/bin/python --require-hashes --requirement requirements-mitogen.txt

test-hosts: bootstrap host-packages

test-tools: test-hosts .venv/tests

control-packages:
	@molecule/shared/install-packages $(CONTROL_PACKAGES)

host-packages:
	@molecule/shared/install-packages $(HOST_PACKAGES)

# The stamp comes last: a build that was cut short is made anew.
.venv/complete: requirements.txt | control-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Name another one: make PYTHON=..." >&2; \
	    exit 1; }
	@echo "Filling .venv from requirements.txt"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.txt >.venv/uv.txt
	@.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.txt
	@.venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes requirements.txt
	@# The tools call each other by PATH: so that .venv/bin/molecule works in a shell where .venv is not activated.
	@echo 'import os, sys; b = f"{sys.prefix}/bin:"; p = os.environ.get("PATH", os.defpath);' \
	    'os.environ["PATH"] = p if p.startswith(b) else b + p' \
	    >"$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/path.pth"
	@touch $@

# The tests' tools come on top, in the versions of requirements.txt where both name a package.
.venv/tests: requirements-test.txt | .venv/complete
	@echo "Adding the tools of requirements-test.txt to .venv"
	@uv pip sync --quiet --python .venv/bin/python --require-hashes $<
	@touch $@

.cache/audit-venv/complete: dev/audit.txt | .venv/complete
	@rm -rf $(@D)
	@uv venv --quiet --python .venv/bin/python $(@D)
	@uv pip sync --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@

.cache/app-venv/complete: app/requirements-test.txt | .venv/complete
	@rm -rf $(@D)
	@uv venv --quiet --python .venv/bin/python $(@D)
	@uv pip sync --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@
