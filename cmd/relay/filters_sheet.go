package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dot-do/relay/filters"
)

const (
	sheetWidth = 80
	markWidth  = 9 // of the first column, with the blanks behind it
	areaWidth  = 18
	maxIndent  = 40 // of a tree: deeper parts stand no further right
)

// sheet writes for people: columns that fit 80 characters, in colours on a terminal.
// What comes from filters and events cannot control the terminal.
type sheet struct {
	w     io.Writer
	paint func(color, text string) string
}

func newSheet(w io.Writer) *sheet { return &sheet{w, painter(w)} }

// row writes one finding: a mark, what it is about, and texts that begin in the same
// column, one below the other.
func (s *sheet) row(color, mark, area string, texts ...string) {
	head := s.paint(color, mark) + strings.Repeat(" ", max(0, markWidth-len(mark)))
	head += area + strings.Repeat(" ", max(1, areaWidth-len(area)))
	for _, text := range texts {
		for _, line := range wrapped(text, sheetWidth-markWidth-areaWidth) {
			fmt.Fprintln(s.w, strings.TrimRight(head+line, " "))
			head = strings.Repeat(" ", markWidth+areaWidth)
		}
	}
}

// remedy writes what to do about the row before.
func (s *sheet) remedy(text string) {
	arrow := "→ "
	for _, line := range wrapped(text, sheetWidth-markWidth-areaWidth) {
		fmt.Fprintln(s.w, strings.Repeat(" ", markWidth+areaWidth-2)+arrow+line)
		arrow = "  "
	}
}

// tree writes a condition with the verdict in front, its reason, and its parts below.
func (s *sheet) tree(x filters.Explanation, depth int) {
	colors := map[filters.Verdict]string{filters.Yes: green, filters.No: red, filters.Unknown: yellow}
	mark := x.Verdict.String()
	head := s.paint(colors[x.Verdict], mark) + strings.Repeat(" ", markWidth-len(mark))
	indent := min(2*depth, maxIndent)
	width := sheetWidth - markWidth - indent
	lines := wrapped(x.Text, width)
	why := strings.Join(wrapped(x.Why, 1<<20), "") // one line, and harmless
	beside := x.Why != "" && utf8.RuneCountInString(lines[len(lines)-1])+4+utf8.RuneCountInString(why) <= width
	for i, line := range lines {
		if beside && i == len(lines)-1 {
			line += s.paint(dim, "  → "+why)
		}
		fmt.Fprintln(s.w, head+strings.Repeat(" ", indent)+line)
		head = strings.Repeat(" ", markWidth)
	}
	if x.Why != "" && !beside {
		arrow := "→ "
		for _, line := range wrapped(x.Why, width-4) {
			fmt.Fprintln(s.w, head+strings.Repeat(" ", indent+2)+s.paint(dim, arrow+line))
			arrow = "  "
		}
	}
	for _, part := range x.Parts {
		s.tree(part, depth+1)
	}
}

// wrapped breaks text into lines of at most width characters, at a blank where there
// is one. There is always a line.
func wrapped(text string, width int) []string {
	left := []rune(harmless(text))
	var lines []string
	for len(left) > width {
		at, next := width, width
		for i := width; i > width/3; i-- {
			if left[i] == ' ' {
				at, next = i, i+1
				break
			}
		}
		lines = append(lines, string(left[:at]))
		left = left[next:]
	}
	return append(lines, string(left))
}

// harmless writes characters that are not printed as they are in JSON, so that JSON
// stays what it was.
func harmless(text string) string {
	if strings.IndexFunc(text, unprintable) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !unprintable(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
