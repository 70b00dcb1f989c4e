# SPDX-License-Identifier: Apache-2.0
#
# The commands of every day. Meson builds; what is longer than a line stands in scripts/.

PREFIX ?= /usr/local
DESTDIR ?=
SECONDS ?= 60
MINUTES ?= 10

# Configures the folder once; ninja configures again by itself when a meson.build changes.
setup = [ -f $(1)/build.ninja ] || $(2) meson setup $(1) $(3) >/dev/null

build: deps
	@$(call setup,build,CC=gcc)
	@ninja -C build

deps:
	@scripts/install-deps build

run: deps
	@$(call setup,build,CC=gcc)
	@ninja -C build src/server/perdured src/cli/perdure
	@scripts/run

check:
	@scripts/install-deps build test
	@scripts/check

demo: build
	@scripts/install-deps test
	@scripts/check-docs --show README.md

release: deps
	@$(call setup,build-release,CC=gcc,--buildtype=release --prefix=$(PREFIX))
	@ninja -C build-release

bench: release
	@scripts/install-deps bench
	@meson test -C build-release --benchmark --verbose

soak: build
	@scripts/install-deps test
	@scripts/soak $(MINUTES)

fuzz: deps
	@scripts/install-deps test
	@scripts/fuzz $(SECONDS)

install: release
	@meson configure build-release -Dprefix=$(PREFIX)
	@DESTDIR=$(DESTDIR) meson install -C build-release

format:
	@scripts/install-deps test
	@scripts/c-files . | xargs -r clang-format-14 -i

lint: build
	@scripts/install-deps lint
	@scripts/lint

clean:
	@rm -rf build build-clang build-asan build-release build-fuzz out

.PHONY: build deps run check demo release bench soak fuzz install format lint clean
