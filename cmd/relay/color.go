package main

import "io"

// ANSI colours, used on terminals only.
const (
	bold    = "\x1b[1m"
	dim     = "\x1b[2m"
	red     = "\x1b[31m"
	green   = "\x1b[32m"
	yellow  = "\x1b[33m"
	blue    = "\x1b[34m"
	magenta = "\x1b[35m"
	cyan    = "\x1b[36m"
	reset   = "\x1b[0m"
)

// painter returns a func that colours text when w is a terminal.
func painter(w io.Writer) func(color, text string) string {
	if !isTerminal(w) {
		return func(_, text string) string { return text }
	}
	return func(color, text string) string { return color + text + reset }
}
