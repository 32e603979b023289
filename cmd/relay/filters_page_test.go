package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A console block of the page is a command, and what it prints on stdout and stderr.
func TestTheFilterCommandsOfThePagePrintWhatItSays(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "cli-filters.md"))
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?ms)^```console\n\\$ relay (.*?)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	word := regexp.MustCompile(`'[^']*'|\S+`)
	for _, block := range blocks {
		var args []string
		for _, arg := range word.FindAllString(block[1], -1) {
			args = append(args, strings.Trim(arg, "'"))
		}
		var out bytes.Buffer
		run(t.Context(), args, env{program: "relay", stdin: strings.NewReader(""), stdout: &out, stderr: &out})
		require.Equal(t, block[2], out.String(), block[1])
	}
}

func TestEveryFlagOfTheFilterCommandsIsOnThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "cli-filters.md"))
	require.NoError(t, err)
	for _, command := range []string{"check", "test"} {
		var out bytes.Buffer
		require.Zero(t, run(t.Context(), []string{"filters", command, "--help"}, env{program: "relay", stdout: &out, stderr: &out}))
		flags := regexp.MustCompile(`(?m)^ {6}(--[a-z-]+)`).FindAllStringSubmatch(out.String(), -1)
		require.NotEmpty(t, flags)
		for _, flag := range flags {
			if flag[1] != "--config" {
				require.Contains(t, string(page), flag[1])
			}
		}
	}
}
