package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func TestBackoffDoublesUpToItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		for _, want := range []time.Duration{
			200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
			2 * time.Second, 2 * time.Second,
		} {
			began := time.Now()
			require.True(t, b.wait(t.Context()))
			require.Equal(t, want, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.False(t, b.wait(ctx), "a stop does not wait")
		require.Equal(t, time.Second, time.Since(began))
	})
}

func TestFencesCountWhileTheyAreClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fences
		require.Zero(t, f.count())
		f.add()
		require.True(t, sleep(t.Context(), fenceWindow))
		f.add()
		require.Equal(t, 2, f.count())
		require.True(t, sleep(t.Context(), fenceWindow+1))
		require.Zero(t, f.count(), "an old one is forgotten")
		f.add()
		require.Equal(t, 1, f.count())
	})
}

func TestThePortFileIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ports")
	for _, p := range []ports{{Listen: "127.0.0.1:1"}, {Listen: "[::1]:2", NATS: "127.0.0.1:3"}} {
		require.NoError(t, writePorts(path, p))
		read, err := readPorts(path)
		require.NoError(t, err)
		require.Equal(t, p, read)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, `{"listen":"[::1]:2","nats":"127.0.0.1:3"}`+"\n", string(content)) //nolint:testifylint // to the byte
}

func TestAPortFileThatCannotBeUsedIsNamed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, writePorts("", ports{}), "none is wanted")
	require.ErrorContains(t, writePorts(filepath.Join(dir, "missing", "ports"), ports{}), "check RELAY_PORT_FILE")
	_, err := readPorts("")
	require.ErrorContains(t, err, "set RELAY_PORT_FILE")
	_, err = readPorts(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "is relay run up, and RELAY_PORT_FILE its file?")
	broken := filepath.Join(dir, "broken")
	require.NoError(t, os.WriteFile(broken, []byte("{"), 0o600))
	_, err = readPorts(broken)
	require.ErrorContains(t, err, broken)
}

// Whatever the names are, the columns of the demo stand below their titles.
func TestTheDemoKeepsItsColumns(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	s.legend()
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	long := strings.Repeat("ö", 80)
	for _, name := range []string{"things", long} {
		s.row(at, name, name)
		s.event(relay.Event{Type: name, Key: name, Visibility: relay.VisibleToEveryone})
		s.event(relay.Event{Type: name, Key: name, Owner: relay.Owner{UserID: name}})
		s.delivery(arrival{at: at, endpoint: name, event: name, status: http.StatusOK, verified: true, latency: 1234567 * time.Microsecond})
		s.delivery(arrival{at: at, endpoint: name, event: name, status: http.StatusOK, verified: true, again: true})
		s.delivery(arrival{at: at, endpoint: name, event: name, status: http.StatusServiceUnavailable})
		s.delivery(arrival{at: at, endpoint: name, event: name, status: http.StatusUnauthorized})
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 15)
	title := []rune("  " + lines[0])
	for _, line := range lines[1:] {
		require.LessOrEqual(t, utf8.RuneCountInString(line), 110, line)
		require.Equal(t, strings.TrimRight(line, " "), line)
		for _, column := range []string{"WHAT", "TABLE OR EVENT", "DETAIL"} {
			start := len([]rune(string(title)[:strings.Index(string(title), column)]))
			require.Equal(t, "  ", string([]rune(line)[start-2:start]), "%s in %q", column, line)
			require.NotEqual(t, ' ', []rune(line)[start], "%s in %q", column, line)
		}
	}
}

func TestTheDemoAddsUpWhatItShowed(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out)
	s.summary()
	require.Equal(t, "\n  total  0 transactions, 0 events, 0 deliveries\n", out.String())

	s.row(time.Now(), "things", "insert")
	s.event(relay.Event{Type: "thing.created"})
	for i := range 100 {
		s.delivery(arrival{status: http.StatusOK, verified: true, latency: time.Duration(i+1) * time.Millisecond})
	}
	s.delivery(arrival{status: http.StatusServiceUnavailable})
	s.delivery(arrival{status: http.StatusOK, verified: true, again: true, latency: time.Hour})
	s.delivery(arrival{status: http.StatusUnauthorized})
	out.Reset()
	s.summary()
	require.Equal(t, "\n  total  1 transaction, 1 event, 101 deliveries (1 after a retry)\n"+
		"         from commit to receiver: half within 51.0 ms, 95 % within 96.0 ms\n"+
		"         1 refused by the receiver\n", out.String())
}

func TestClipKeepsWholeCharacters(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc": "abc", "abcd": "ab…", "äöüß": "äö…"} {
		require.Equal(t, want, clip(in, 3))
	}
}

// Colours are for people: what is piped stays plain.
func TestOnlyATerminalGetsColours(t *testing.T) {
	require.Equal(t, "text", painter(&bytes.Buffer{})(red, "text"))
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	require.Equal(t, "text", painter(file)(red, "text"))
	require.Equal(t, "1 event, 2 events, 2 deliveries",
		fmt.Sprintf("%s, %s, %s", counted(1, "event"), counted(2, "event"), plural(2, "delivery", "deliveries")))
}
