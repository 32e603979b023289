package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// GapRecord is the body of a relay.control.gap message: of the range named the
// stream is not to be relied on. Either an operator gave up a range of the log, and
// from here on the stream follows the log again; or messages are gone that the stream
// held, and the last fields say between which.
type GapRecord struct {
	Slot   string    `json:"slot"`
	Reason string    `json:"reason"`         // of the halt that the operator decided, or of the Hole
	From   string    `json:"from,omitempty"` // log positions; empty where it is not known
	To     string    `json:"to,omitempty"`
	Found  string    `json:"found"` // what was found, in words
	At     time.Time `json:"accepted_at,omitzero"`

	FoundAt time.Time `json:"found_at,omitzero"`
	After   *GapSide  `json:"after,omitempty"`
	Before  *GapSide  `json:"before,omitempty"`
	Missing uint64    `json:"missing,omitempty"` // messages
}

// GapSide is a place in the stream beside a hole.
type GapSide struct {
	Seq      uint64 `json:"seq"`
	Position string `json:"pos,omitempty"` // Relay-Pos; empty where it is not known
}

// recordGap tells subscribers of the range that is given up, in its place in the
// stream, before anything behind it. When it fails, the gap is found again by the
// next session; the record then stands there twice, which does no harm.
func (c *Capture) recordGap(ctx context.Context, g *gap) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	record := GapRecord{Slot: c.slot.Name, Reason: g.reason, Found: g.found, At: now}
	if g.from > 0 {
		record.From = g.from.String()
	}
	if g.to > 0 {
		record.To = g.to.String()
	}
	body, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("write the gap record: %w", err)
	}
	// Behind all that is left out, and before all that is to come.
	at := Position{CommitLSN: max(c.slot.Confirmed, 1) - 1, Ordinal: math.MaxUint32, Index: math.MaxUint32}
	if at.Compare(c.skip) < 0 {
		at = c.skip
	}
	err = c.cfg.Stream.Append(ctx, []Event{{
		ID: "gap_" + newLineage(), Type: ControlGap, Position: at, Body: body, Lineage: c.cp.Lineage, OccurredAt: now, CommittedAt: now,
	}})
	if err != nil {
		return fmt.Errorf("publish the gap record: %w", err)
	}
	c.end = at
	return nil
}
