package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// body is what an event says, on NATS and over HTTP.
type body struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Timestamp string          `json:"timestamp"`
	Source    source          `json:"source"`
	Data      json.RawMessage `json:"data"`
	// Previous is nil where the member is missing.
	Previous            json.RawMessage `json:"previous"`
	Unavailable         []string        `json:"unavailable"`
	PreviousUnavailable []string        `json:"previous_unavailable"`
	Metadata            json.RawMessage `json:"metadata"`
	Oversize            bool            `json:"oversize"`

	lsn lsn
}

type source struct {
	Table string         `json:"table"`
	Op    string         `json:"op"`
	LSN   string         `json:"lsn"`
	Key   map[string]any `json:"key"`
}

var (
	eventIDForm   = regexp.MustCompile(`^evt_[a-z2-7]{26}$`)
	typeForm      = regexp.MustCompile(`^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$`)
	timestampForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`)
)

// parseBody reads a body and refuses what the contract does not know.
func parseBody(content []byte) (body, error) {
	var b body
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(&b); err != nil {
		return b, err
	}
	if decoder.More() {
		return b, fmt.Errorf("more than one value")
	}
	at, err := time.Parse(time.RFC3339Nano, b.Timestamp)
	switch {
	case !eventIDForm.MatchString(b.ID):
		return b, fmt.Errorf("id %q", b.ID)
	case !typeForm.MatchString(b.Type):
		return b, fmt.Errorf("type %q", b.Type)
	case err != nil || !timestampForm.MatchString(b.Timestamp):
		return b, fmt.Errorf("timestamp %q is not RFC 3339 in UTC", b.Timestamp)
	case time.Since(at).Abs() > time.Hour:
		return b, fmt.Errorf("timestamp %q is not now", b.Timestamp)
	case !slices.Contains([]string{"insert", "update", "delete", "read"}, b.Source.Op):
		return b, fmt.Errorf("source.op %q", b.Source.Op)
	case strings.Count(b.Source.Table, ".") != 1:
		return b, fmt.Errorf("source.table %q", b.Source.Table)
	case !bytes.HasPrefix(b.Data, []byte("{")):
		return b, fmt.Errorf("data is no object")
	case b.Source.Op == "update" && !bytes.HasPrefix(b.Previous, []byte("{")):
		return b, fmt.Errorf("an update without previous")
	case b.Source.Op != "update" && (b.Previous != nil || b.PreviousUnavailable != nil):
		return b, fmt.Errorf("previous, though nothing was before")
	}
	b.lsn, err = parseLSN(b.Source.LSN)
	return b, err
}

// name is the event in a word: type and key.
func (b body) name() string { return b.Type + " " + b.key() }

// key is the row's key as text.
func (b body) key() string {
	var parts []string
	for _, column := range []string{"aggregate_type", "ns", "aggregate_ns", "id", "aggregate_id"} {
		if v, ok := b.Source.Key[column]; ok {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, "/")
}

// lsn is a place in the log of Postgres.
type lsn uint64

// parseLSN reads the form that Postgres prints, and no other.
func parseLSN(text string) (lsn, error) {
	high, low, ok := strings.Cut(text, "/")
	h, err1 := strconv.ParseUint(high, 16, 32)
	l, err2 := strconv.ParseUint(low, 16, 32)
	v := lsn(h<<32 | l)
	if !ok || err1 != nil || err2 != nil || v.String() != text {
		return 0, fmt.Errorf("%q is no LSN", text)
	}
	return v, nil
}

func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint64(l)&0xFFFFFFFF) }

func (l lsn) compare(other lsn) int {
	switch {
	case l < other:
		return -1
	case l > other:
		return 1
	}
	return 0
}

// position is the place of a message: <commit LSN>:<ordinal>:<index>.
type position struct {
	commit         lsn
	ordinal, index uint32
}

func parsePosition(text string) (position, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return position{}, fmt.Errorf("%q is no position", text)
	}
	commit, err := parseLSN(parts[0])
	if err != nil {
		return position{}, err
	}
	ordinal, err1 := strconv.ParseUint(parts[1], 10, 32)
	index, err2 := strconv.ParseUint(parts[2], 10, 32)
	if err1 != nil || err2 != nil {
		return position{}, fmt.Errorf("%q is no position", text)
	}
	return position{commit, uint32(ordinal), uint32(index)}, nil
}

// after reports whether p comes strictly later than q.
func (p position) after(q position) bool {
	switch {
	case p.commit != q.commit:
		return p.commit > q.commit
	case p.ordinal != q.ordinal:
		return p.ordinal > q.ordinal
	}
	return p.index > q.index
}
