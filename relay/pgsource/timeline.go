package pgsource

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"

	"github.com/dot-do/relay/relay"
)

// forks reads where each former timeline of the server ended. A server that never
// recovered has none.
func (s *Source) forks(ctx context.Context) (map[int32]relay.LSN, error) {
	if s.slot.Timeline <= 1 {
		return nil, nil
	}
	history, err := pglogrepl.TimelineHistory(ctx, s.repl, s.slot.Timeline)
	if err != nil {
		return nil, fmt.Errorf("read the history of timeline %d: %w", s.slot.Timeline, err)
	}
	return parseHistory(history.Content)
}

// parseHistory reads a timeline history file: lines of a timeline, the position
// where it was left, and the reason.
func parseHistory(content []byte) (map[int32]relay.LSN, error) {
	forks := map[int32]relay.LSN{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("timeline history: %q is no line of one", line)
		}
		timeline, err := strconv.ParseInt(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("timeline history: %q is no timeline", fields[0])
		}
		if forks[int32(timeline)], err = relay.ParseLSN(fields[1]); err != nil {
			return nil, fmt.Errorf("timeline history: %w", err)
		}
	}
	return forks, lines.Err()
}
