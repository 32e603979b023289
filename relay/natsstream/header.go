package natsstream

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/relay"
)

// Header names beside those of CloudEvents.
const (
	headerPos     = "Relay-Pos"
	headerPrev    = "Relay-Prev"
	headerOwner   = "Relay-Owner"
	headerControl = "Relay-Control"
	headerCommit  = "Relay-Committed" // when the transaction was committed; absent where ce-time says it
	headerLineage = "Relay-Lineage"   // of the slot that the event was read from
	headerRefill  = "Relay-Refilled"  // "true" when the stream may have held the event before and lost it; else absent
)

const (
	// headerRoom is what the headers of one message may take of the server's
	// largest payload. The bounds below keep them under it: escaping makes three
	// bytes of one.
	headerRoom  = 16 << 10
	maxKey      = 1 << 10 // longer row keys are cut in ce-subject; the body has them whole
	maxOwner    = 1 << 10 // of user and of tenant
	maxTable    = 512
	maxSource   = 256
	idControl   = "ctl_"
	maxTypeSize = 255
)

// Names of headers that the server reads.
const (
	headerID       = jetstream.MsgIDHeader
	headerAfter    = jetstream.ExpectedLastSeqHeader
	headerAfterID  = jetstream.ExpectedLastMsgIDHeader
	headerGroup    = "Nats-Batch-Id"
	headerGroupAt  = "Nats-Batch-Sequence"
	headerGroupEnd = "Nats-Batch-Commit"
)

// envelope builds the headers of one message after the other, as they go over the
// wire, in the same memory.
type envelope struct {
	source string // ce-source, up to the table
	buf    []byte
	last   []byte // id of the message before

	// Texts that the next message is likely to need again.
	at, when         []byte
	position         relay.Position
	occurred         time.Time
	subject, subType string
}

// subjectOf returns the subject of an event.
func (e *envelope) subjectOf(ev *relay.Event) (string, error) {
	if ev.Type == e.subType && e.subject != "" {
		return e.subject, nil
	}
	s, err := subject(ev.Type)
	if err == nil {
		e.subject, e.subType = s, strings.Clone(ev.Type)
	}
	return s, err
}

func newEnvelope(source string) *envelope {
	return &envelope{source: string(append(appendEscaped([]byte("/relay/"), cut(source, maxSource)), '/'))}
}

// place says where a message stands in the stream.
type place struct {
	after   uint64         // sequence it must follow
	prev    relay.Position // of the message there; zero when unknown
	control uint64         // sequence of the last announcement

	// byID makes the message name the id of the one before it as well, unless it is
	// the first after the tail was read. Sequences alone let a message in whose
	// predecessors were refused, when as many of another writer took their places.
	// In a batch the server knows that they were. Only a stream without replicas can
	// be asked: a replica that has caught up does not know the last id, and would part
	// from its leader.
	byID, first bool

	ids    bool // the server is told the message's id
	inside bool // not the first of an atomic batch, which the server checks as a whole, by that one
}

// follow moves behind an event, which is the message with sequence seq.
func (p *place) follow(ev *relay.Event, seq uint64) {
	p.after, p.prev, p.first = seq, ev.Position, false
	if ev.IsControl() {
		p.control = seq
	}
}

// fill returns the headers of an event's message, good until the next fill.
func (e *envelope) fill(ev *relay.Event, at *place) []byte {
	b := append(e.buf[:0], "NATS/1.0\r\n"...)
	if !at.inside {
		b = append(strconv.AppendUint(header(b, headerAfter), at.after, 10), crlf...)
	}
	if at.byID && !at.first {
		b = append(append(header(b, headerAfterID), e.last...), crlf...)
	}
	e.last = appendID(e.last[:0], ev)
	if at.ids {
		b = append(append(header(b, headerID), e.last...), crlf...)
	}
	b = append(b, "ce-specversion: 1.0\r\nce-id: "...)
	b = append(b, e.last...)
	b = append(b, "\r\nce-type: "...)
	b = append(b, ev.Type...) // checked by subject
	b = append(b, "\r\nce-source: "...)
	b = append(b, e.source...)
	b = appendEscaped(b, cut(ev.Table, maxTable))
	b = append(b, "\r\nce-subject: "...)
	b = appendEscaped(b, cut(ev.Key, maxKey))
	b = append(b, "\r\nce-time: "...)
	if ev.OccurredAt != e.occurred || len(e.when) == 0 {
		e.occurred, e.when = ev.OccurredAt, relay.AppendTime(e.when[:0], ev.OccurredAt)
	}
	b = append(b, e.when...)
	b = append(b, "\r\nRelay-Prev: "...)
	switch {
	case at.prev.IsZero():
	case at.prev == e.position:
		b = append(b, e.at...)
	default:
		b = at.prev.Append(b)
	}
	e.position, e.at = ev.Position, ev.Position.Append(e.at[:0])
	b = append(b, "\r\ncontent-type: application/json\r\nRelay-Pos: "...)
	b = append(b, e.at...)
	b = append(b, "\r\nRelay-Owner: "...)
	b = appendOwner(b, ev)
	b = append(b, "\r\nRelay-Control: "...)
	b = strconv.AppendUint(b, at.control, 10)
	if !ev.CommittedAt.Equal(ev.OccurredAt) {
		b = append(b, "\r\nRelay-Committed: "...)
		b = relay.AppendTime(b, ev.CommittedAt)
	}
	b = append(b, "\r\nRelay-Lineage: "...)
	b = append(b, ev.Lineage...) // hexadecimal, made by the relay
	if ev.Refilled {
		b = append(b, "\r\nRelay-Refilled: true"...)
	}
	b = append(b, "\r\n\r\n"...)
	e.buf = b
	return b
}

const crlf = "\r\n"

func header(b []byte, name string) []byte {
	return append(append(b, name...), ": "...)
}

// appendID writes the id of a message: the event's, or one for an announcement that
// has none.
func appendID(b []byte, ev *relay.Event) []byte {
	if ev.IsControl() && ev.ID == "" {
		return ev.Position.Append(append(b, idControl...))
	}
	return appendEscaped(b, ev.ID)
}

// subject of an event; the error says that the type cannot be part of one.
func subject(eventType string) (string, error) {
	if len(eventType) > maxTypeSize {
		return "", fmt.Errorf("event type of %d bytes is longer than %d", len(eventType), maxTypeSize)
	}
	token := 0 // bytes of the present one
	for i := range len(eventType) {
		switch c := eventType[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			token++
		case c == '.' && token > 0:
			token = 0
		default:
			return "", fmt.Errorf("event type %q is no name of the form noun.verb", eventType)
		}
	}
	if token == 0 {
		return "", fmt.Errorf("event type %q is no name of the form noun.verb", eventType)
	}
	if strings.HasPrefix(eventType, relay.ControlPrefix) {
		return eventType, nil
	}
	return eventPrefix + eventType, nil
}

// appendOwner writes who may see the event. Names that do not fit leave the event
// to nobody: half an owner could be somebody else.
func appendOwner(b []byte, ev *relay.Event) []byte {
	if ev.Visibility == relay.VisibleToEveryone {
		b = append(b, "audience=everyone"...)
	} else {
		b = append(b, "audience=owner"...)
	}
	if len(ev.Owner.UserID) > maxOwner || len(ev.Owner.TenantID) > maxOwner {
		return b
	}
	if ev.Owner.UserID != "" {
		b = append(append(b, "&user="...), url.QueryEscape(ev.Owner.UserID)...)
	}
	if ev.Owner.TenantID != "" {
		b = append(append(b, "&tenant="...), url.QueryEscape(ev.Owner.TenantID)...)
	}
	return b
}

func parseOwner(s string) (relay.Owner, relay.Visibility, error) {
	q, err := url.ParseQuery(s)
	if err != nil {
		return relay.Owner{}, relay.VisibleToOwner, fmt.Errorf("%s: %w", headerOwner, err)
	}
	owner := relay.Owner{UserID: q.Get("user"), TenantID: q.Get("tenant")}
	switch q.Get("audience") {
	case "everyone":
		return owner, relay.VisibleToEveryone, nil
	case "owner":
		return owner, relay.VisibleToOwner, nil
	}
	return relay.Owner{}, relay.VisibleToOwner, fmt.Errorf("%s names no audience", headerOwner)
}

// appendEscaped writes s as CloudEvents wants a header value: everything but
// visible ASCII, and the quote and percent signs, as %XX. Nothing can end the line.
func appendEscaped(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7F || c == '"' || c == '%' {
			b = append(b, '%', digits[c>>4], digits[c&0xF])
		} else {
			b = append(b, c)
		}
	}
	return b
}

func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	return url.PathUnescape(s)
}

// cut shortens s to at most n bytes.
func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// parseHeader is the reverse of fill, for everything but the body.
func parseHeader(h nats.Header, ev *relay.Event) (control uint64, err error) {
	if ev.Position, err = relay.ParsePosition(h.Get(headerPos)); err != nil {
		return 0, fmt.Errorf("%s: %w", headerPos, err)
	}
	if control, err = strconv.ParseUint(h.Get(headerControl), 10, 64); err != nil {
		return 0, fmt.Errorf("%s is not a sequence", headerControl)
	}
	if ev.Owner, ev.Visibility, err = parseOwner(h.Get(headerOwner)); err != nil {
		return 0, err
	}
	if ev.OccurredAt, err = time.Parse(time.RFC3339Nano, h.Get("ce-time")); err != nil {
		return 0, fmt.Errorf("ce-time is not a time of RFC 3339")
	}
	ev.CommittedAt = ev.OccurredAt
	if at := h.Get(headerCommit); at != "" {
		if ev.CommittedAt, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return 0, fmt.Errorf("%s is not a time of RFC 3339", headerCommit)
		}
	}
	ev.Lineage, ev.Refilled = h.Get(headerLineage), h.Get(headerRefill) != ""
	if ev.ID, err = unescape(h.Get("ce-id")); err != nil || ev.ID == "" {
		return 0, fmt.Errorf("ce-id is missing or not escaped")
	}
	if h.Get("ce-type") != ev.Type {
		return 0, fmt.Errorf("ce-type is not the type in the subject")
	}
	if ev.Key, err = unescape(h.Get("ce-subject")); err != nil {
		return 0, fmt.Errorf("ce-subject is not escaped")
	}
	source := h.Get("ce-source")
	if ev.Table, err = unescape(source[strings.LastIndexByte(source, '/')+1:]); err != nil {
		return 0, fmt.Errorf("ce-source is not escaped")
	}
	return control, nil
}
