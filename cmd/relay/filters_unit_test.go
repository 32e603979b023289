package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/config"
)

func TestProgressIsToldOnlyWhenItTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out)
		for n := range 50 {
			p.say("%d of 50", n)
			require.True(t, sleep(t.Context(), 100*time.Millisecond))
		}
		require.Equal(t, "21 of 50\n42 of 50\n", out.String())
	})
}

func TestALongTextIsBrokenAtBlanksAndLosesNothing(t *testing.T) {
	require.Equal(t, []string{""}, wrapped("", 10))
	require.Equal(t, []string{"0123456789"}, wrapped("0123456789", 10))
	require.Equal(t, []string{"01234 678", "abc"}, wrapped("01234 678 abc", 10))
	require.Equal(t, []string{"0123456789", "ab"}, wrapped("0123456789ab", 10))
	require.Equal(t, []string{"0123456789", "ab"}, wrapped("0123456789 ab", 10))
	require.Equal(t, []string{"ääääääääää", "ä"}, wrapped("äääääääääää", 10))
}

func TestWhatIsPrintedCannotControlTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		`plain "ü" 漢`:        `plain "ü" 漢`,
		"\x1b[2J\r\n\t\x00":  `\u001b[2J\u000d\u000a\u0009\u0000`,
		"\u009b\u202e\u200b": `\u009b\u202e\u200b`,
		"\U000e0041":         `\udb40\udc41`,
	} {
		require.Equal(t, want, harmless(in))
	}
}

// However deep a condition is, it stays within the width, verdicts in the first column.
func TestATreeKeepsItsColumns(t *testing.T) {
	x := filters.Explanation{Text: "innermost " + strings.Repeat("word ", 30), Verdict: filters.No, Why: strings.Repeat("because ", 30)}
	for depth := range 32 {
		x = filters.Explanation{Text: "level", Verdict: filters.Verdict(depth % 3), Why: "so it is", Parts: []filters.Explanation{x, {Text: "leaf", Verdict: filters.Yes}}}
	}
	var out bytes.Buffer
	newSheet(&out).tree(x, 0)
	verdicts := 0
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), sheetWidth)
		first := strings.TrimRight(line[:markWidth], " ")
		require.Contains(t, []string{"", "yes", "no", "unknown"}, first)
		if first != "" {
			verdicts++
		}
	}
	require.Equal(t, 2*32+1, verdicts)
	require.Contains(t, out.String(), "  level  → so it is\n")
}

func TestConditionsOnTheRowBeforeAreFoundWhereTheyStand(t *testing.T) {
	const filter = `{"a/b~": {"$not": {"$from": {"x": 1}, "$to": 2}}, "$and": [{"$changed": ["/a"]}, {"$or": [{"$before": {"c": 1}}]}],
		"d": {"$eq": {"$$from": 1}}, "$$before": {"$$changed": [1e400, {"n": 123456789012345678901234567890}]}, "e": {"$to": [1]}}`
	_, err := filters.Compile([]byte(filter))
	require.NoError(t, err)
	require.Equal(t, []condition{
		{"$from", "/a~1b~0/$not/$from"},
		{"$to", "/a~1b~0/$not/$to"},
		{"$changed", "/$and/0/$changed"},
		{"$before", "/$and/1/$or/0/$before"},
		{"$to", "/e/$to"},
	}, changeConditions([]byte(filter)))
	for text, want := range map[string]bool{
		filter: true, `{"d": {"$eq": {"$$from": 1}}}`: true, `{"a": [{"$$b": 1}]}`: true, `{"a": {"$eq": "$$b"}}`: false,
		`{}`: false, `null`: false, `{"a": [1, {"b": 2}], "c": nonsense`: false,
	} {
		require.Equal(t, want, literalDollars([]byte(text)), text)
	}
}

func TestTheListenerOfARunningRelayIsFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports")
	require.NoError(t, writePorts(file, ports{Listen: "127.0.0.1:1", NATS: "127.0.0.1:2"}))
	for listen, want := range map[string]string{
		"127.0.0.1:4222": "127.0.0.1:4222", ":4222": "127.0.0.1:4222", "0.0.0.0:4222": "127.0.0.1:4222", "[::]:4222": "127.0.0.1:4222",
		"nats.internal:4222": "nats.internal:4222", "127.0.0.1:0": "127.0.0.1:2",
	} {
		got, err := listener(config.Config{PortFile: file, NATS: config.NATS{Listen: listen}})
		require.NoError(t, err)
		require.Equal(t, want, got, listen)
	}
	require.NoError(t, writePorts(file, ports{Listen: "127.0.0.1:1"}))
	_, err := listener(config.Config{PortFile: file, NATS: config.NATS{Listen: "127.0.0.1:0"}})
	require.ErrorContains(t, err, "RELAY_PORT_FILE names no address for NATS")
}
