package pgproc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BinEnv names the environment variable that overrides the search for Postgres.
const BinEnv = "RELAY_PG_BIN"

// minVersion is the oldest major version Relay works with.
const minVersion = 14

// ErrNotFound is returned, wrapped, by Find when no usable Postgres was found.
var ErrNotFound = errors.New("PostgreSQL server programs not found")

// Find returns the directory that holds initdb and postgres. It looks at
// RELAY_PG_BIN, then PATH, then what pg_config --bindir answers, then the newest
// of the places distributions use. The error lists what was looked at and the
// command that installs Postgres.
func Find() (string, error) {
	if dir := os.Getenv(BinEnv); dir != "" {
		if err := check(dir); err != nil {
			return "", fmt.Errorf("%w: %s=%s: %w; unset it, or install them with: apt-get install postgresql", ErrNotFound, BinEnv, dir, err)
		}
		return dir, nil
	}
	var tried []string
	for _, dir := range candidates() {
		err := check(dir)
		if err == nil {
			return dir, nil
		}
		tried = append(tried, err.Error())
	}
	return "", notFound(tried)
}

func notFound(tried []string) error {
	found := ""
	if len(tried) > 0 {
		found = " (" + strings.Join(tried, "; ") + ")"
	}
	return fmt.Errorf("%w: looked at %s, PATH, pg_config --bindir and %s%s; install them with: apt-get install postgresql",
		ErrNotFound, BinEnv, systemDirs, found)
}

const systemDirs = "/usr/lib/postgresql/*/bin"

// candidates lists directories to check, the preferred first.
func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			path = target // initdb looks for its siblings
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, string(bytes.TrimSpace(out)))
	}
	for _, pattern := range []string{systemDirs, "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		dirs = append(dirs, newest(pattern)...)
	}
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// newest expands a pattern, the highest version number first.
func newest(pattern string) []string {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	version := func(dir string) int {
		n, _ := strconv.Atoi(digits.FindString(filepath.Base(filepath.Dir(dir))))
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return found
}

// check says what is wrong with a directory of Postgres programs.
func check(dir string) error {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("no %s in %s", name, dir)
		}
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output() //nolint:gosec // the directory is the operator's choice
	if err != nil {
		return fmt.Errorf("%s/postgres --version: %w", dir, err)
	}
	major, err := strconv.Atoi(digits.FindString(string(out)))
	if err != nil {
		return fmt.Errorf("%s/postgres --version: no number in its answer", dir)
	}
	if major < minVersion {
		return fmt.Errorf("PostgreSQL %d in %s is too old: %d or newer is needed", major, dir, minVersion)
	}
	return nil
}
