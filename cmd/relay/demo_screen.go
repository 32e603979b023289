package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dot-do/relay/relay"
)

// Widths of columns: a line has 105 characters.
const (
	subjectWidth = 20
	detailWidth  = 46
)

// screen prints the demo's lines: a row written, an event raised, a delivery
// arrived, each in its columns.
type screen struct {
	w     io.Writer
	paint func(color, text string) string

	mu        sync.Mutex
	rows      int
	events    int
	latencies []time.Duration
	retries   int
	bad       int
	last      time.Time
}

// arrival is one request at the receiver.
type arrival struct {
	at       time.Time
	endpoint string
	event    string
	status   int
	verified bool
	again    bool // the same webhook-id came before
	latency  time.Duration
}

func newScreen(w io.Writer) *screen { return &screen{w: w, paint: painter(w)} }

func (s *screen) title(d time.Duration) {
	ends := "runs until Ctrl-C"
	if d > 0 {
		ends = "ends by itself after " + d.String()
	}
	fmt.Fprintf(s.w, "\n  %s  rows you write, events you get (%s; leaves nothing behind)\n\n", s.paint(bold, "relay demo"), ends)
}

// step shows a part of the start and how long it took.
func (s *screen) step(ctx context.Context, what string, do func() error) error {
	began := time.Now()
	fmt.Fprintf(s.w, "  %s %-40s", s.paint(dim, "…"), what)
	if err := do(); err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(s.w, s.paint(yellow, "stopped"))
		} else {
			fmt.Fprintln(s.w, s.paint(red, "failed"))
		}
		return err
	}
	fmt.Fprintf(s.w, "%s %s\n", s.paint(green, "ok"), s.paint(dim, fmt.Sprintf("%4d ms", time.Since(began).Milliseconds())))
	return nil
}

func (s *screen) legend() {
	fmt.Fprintf(s.w, "\n  %s\n", s.paint(dim, fmt.Sprintf("%-12s  %-7s  %-*s  %-*s  %s", "TIME", "WHAT", subjectWidth, "TABLE OR EVENT", detailWidth, "DETAIL", "AFTER COMMIT")))
}

// line prints one line of the show; the caller holds the lock.
func (s *screen) line(at time.Time, color, what, subject, detail, after string) {
	s.last = time.Now()
	text := fmt.Sprintf("  %s  %s  %-*s  %-*s  %s", s.paint(dim, at.Format("15:04:05.000")), s.paint(color, fmt.Sprintf("%-7s", what)),
		subjectWidth, clip(subject, subjectWidth), detailWidth, clip(detail, detailWidth), after)
	fmt.Fprintln(s.w, strings.TrimRight(text, " "))
}

func (s *screen) row(at time.Time, table, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows++
	s.line(at, blue, "write", table, text, "")
}

func (s *screen) event(e relay.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events++
	s.line(time.Now(), magenta, "event", e.Type, clip(e.Key, 24)+"  for "+audienceText(e), "")
}

func audienceText(e relay.Event) string {
	switch {
	case e.Visibility == relay.VisibleToEveryone:
		return "everyone"
	case e.Owner.UserID != "":
		return e.Owner.UserID
	case e.Owner.TenantID != "":
		return e.Owner.TenantID
	}
	return "nobody"
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func (s *screen) delivery(a arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	detail, color := fmt.Sprintf("→ /%s  %d, signature verified", a.endpoint, a.status), green
	switch {
	case a.verified && a.again:
		s.retries++
		detail += ", retried"
	case a.verified:
		s.latencies = append(s.latencies, a.latency)
	case a.status == http.StatusServiceUnavailable:
		detail, color = fmt.Sprintf("→ /%s  503 on purpose, comes again", a.endpoint), yellow
	default:
		s.bad++
		detail, color = fmt.Sprintf("→ /%s  %d, refused", a.endpoint, a.status), red
	}
	s.line(a.at, color, "deliver", a.event, detail, s.paint(bold, fmt.Sprintf("%7.1f ms", float64(a.latency.Microseconds())/1000)))
}

// quiet reports whether nothing happened for d.
func (s *screen) quiet(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.last) > d
}

func (s *screen) summary() {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, "\n  %s  %s, %s, %s", s.paint(bold, "total"),
		counted(s.rows, "transaction"), counted(s.events, "event"), plural(len(s.latencies)+s.retries, "delivery", "deliveries"))
	if s.retries > 0 {
		fmt.Fprintf(s.w, " (%d after a retry)", s.retries)
	}
	if n := len(s.latencies); n > 0 {
		slices.Sort(s.latencies)
		fmt.Fprintf(s.w, "\n         from commit to receiver: half within %s, 95 %% within %s", ms(s.latencies[n/2]), ms(s.latencies[n*95/100]))
	}
	if s.bad > 0 {
		fmt.Fprintf(s.w, "\n         %s", s.paint(red, fmt.Sprintf("%d refused by the receiver", s.bad)))
	}
	fmt.Fprintln(s.w)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// next tells what to try with a database of one's own.
func (s *screen) next(program string) {
	fmt.Fprintf(s.w, "\n  %s\n", s.paint(bold, "Try next, with your own database"))
	for _, c := range [][2]string{
		{"export RELAY_DATABASE_URL=postgres://user:password@host/database", "it needs wal_level=logical; nothing in it changes before migrate"},
		{program + " migrate up && " + program + " doctor", "make the relay's tables, and see what is missing"},
		{program + " run", "events from your own tables"},
	} {
		fmt.Fprintf(s.w, "    %s\n    %s\n", s.paint(dim, "# "+c[1]), s.paint(cyan, c[0]))
	}
	fmt.Fprintln(s.w)
}
