package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
)

const (
	barWidth = 24
)

// backfillBar shows one backfill: a bar that moves on a terminal, else lines.
type backfillBar struct {
	w     io.Writer
	live  bool
	drawn bool
}

func (b *backfillBar) draw(row *pgstore.BackfillRow) error {
	text := describeBackfill(row)
	if !b.live {
		_, err := fmt.Fprintln(b.w, text)
		return err
	}
	b.drawn = true
	line := barOf(row) + text
	if width := terminalWidth(b.w); width > 1 { // a line that is broken cannot be drawn over
		line = clip(line, width-1)
	}
	_, err := fmt.Fprintf(b.w, "\r\x1b[K%s", line)
	return err
}

// end leaves the bar as it is, on a line of its own.
func (b *backfillBar) end() {
	if b.drawn {
		fmt.Fprintln(b.w)
		b.drawn = false
	}
}

func barOf(row *pgstore.BackfillRow) string {
	full := int(shareOf(row) * barWidth)
	return "[" + strings.Repeat("█", full) + strings.Repeat("·", barWidth-full) + "] "
}

// shareOf is how much is done. The planner only guesses how many rows there are: what
// goes on is never whole.
func shareOf(row *pgstore.BackfillRow) float64 {
	switch {
	case row.State == relay.BackfillDone:
		return 1
	case row.Estimated <= 0:
		return 0
	}
	return min(float64(row.Rows)/float64(row.Estimated), 0.99)
}

// speed is the mean since it began, and what is left at that speed.
func speed(row *pgstore.BackfillRow, now time.Time) (perSecond float64, left time.Duration, known bool) {
	if row.Started == nil {
		return 0, 0, false
	}
	if row.Finished != nil {
		now = *row.Finished
	}
	seconds := now.Sub(*row.Started).Seconds()
	if seconds <= 0 || row.Rows == 0 {
		return 0, 0, false
	}
	perSecond = float64(row.Rows) / seconds
	if row.Finished != nil || row.Estimated <= row.Rows {
		return perSecond, 0, row.Finished != nil
	}
	return perSecond, time.Duration(float64(row.Estimated-row.Rows) / perSecond * float64(time.Second)), true
}

// describeBackfill is one line about a backfill.
func describeBackfill(row *pgstore.BackfillRow) string {
	return describeBackfillAt(row, time.Now())
}

func describeBackfillAt(row *pgstore.BackfillRow, now time.Time) string {
	rate, left, known := speed(row, now)
	parts := []string{fmt.Sprintf("%s %s %s", row.ID, row.Table, row.State)}
	switch {
	case row.State == relay.BackfillQueued:
	case row.State == relay.BackfillRunning && row.Estimated > 0:
		parts = append(parts, fmt.Sprintf("%s of about %s rows (%.0f%%)", grouped(row.Rows), grouped(max(row.Estimated, row.Rows)), shareOf(row)*100))
	default:
		parts = append(parts, grouped(row.Rows)+" rows")
	}
	if row.Rows > 0 {
		parts = append(parts, grouped(row.Events)+" events")
	}
	if row.Overtaken > 0 {
		parts = append(parts, grouped(row.Overtaken)+" rows left to their own changes")
	}
	if rate >= 1 {
		parts = append(parts, grouped(int64(rate))+" rows/s")
	}
	switch {
	case row.State != relay.BackfillRunning:
	case known:
		parts = append(parts, left.Round(time.Second).String()+" left")
	case row.Rows > 0:
		parts = append(parts, "more rows than estimated")
	}
	if row.Where != "" {
		parts = append(parts, "where "+harmless(row.Where))
	}
	if row.EventType != "" {
		parts = append(parts, "only "+harmless(row.EventType))
	}
	if row.Note != "" {
		parts = append(parts, harmless(row.Note))
	}
	return strings.Join(parts, " · ")
}

// grouped writes a number with its thousands apart.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
