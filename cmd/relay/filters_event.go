package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
)

// occurrence is the event that a filter is tried on.
type occurrence struct {
	ID    string   `json:"id,omitempty"`
	Type  string   `json:"type,omitempty"` // empty: not known
	Op    string   `json:"op"`
	Table string   `json:"table,omitempty"`
	Seq   uint64   `json:"stream_seq,omitempty"`
	Notes []string `json:"notes"` // what had to be assumed

	event  filters.Event
	stream *relay.Event // with its owner; nil when it is not from the stream
}

// occurrence reads the event that the arguments name.
func (c *filtersTestCmd) occurrence(ctx context.Context, a *app, f *filters.Filter) (*occurrence, error) {
	if isEventID(c.Event) {
		if c.Op != "" || c.Before != "" {
			return nil, usageError{errors.New("--op and --before go with a bare row: an event in the stream has its own")}
		}
		return c.look(ctx, a, f)
	}
	text, err := a.input("event", c.Event)
	if err != nil {
		return nil, err
	}
	if c.Op == "" && c.Before == "" {
		o, err := readBody(text, f)
		if err != nil {
			return nil, usageError{fmt.Errorf("read the event: %w", err)}
		}
		if o != nil {
			return o, nil
		}
	}
	return c.row(a, f, text)
}

// isEventID tells an event id from a file that has its form.
func isEventID(arg string) bool {
	if !strings.HasPrefix(arg, "evt_") {
		return false
	}
	_, err := os.Stat(arg)
	return err != nil
}

// body is what this command reads of an event as NATS and webhooks carry it; the
// relay reads the rest.
type body struct {
	ID     string `json:"id"`
	Type   string `json:"type"`
	Op     string `json:"op"` // of an event in short, as the documentation writes them
	Source struct {
		Table string `json:"table"`
		Op    string `json:"op"`
	} `json:"source"`
	Data json.RawMessage `json:"data"`
}

// kind tells an event from a bare row, and whether it is one in short.
func (b *body) kind(text []byte) (event, short bool) {
	if json.Unmarshal(text, b) != nil || b.Data == nil {
		return false, false
	}
	_, known := filters.ParseOp(b.Op)
	short = b.Source.Op == "" && known && isObject(b.Data)
	return short || b.Source.Op != "", short
}

// mistyped tells of an event whose id or type is no string, which is no bare row.
func (b *body) mistyped(text []byte) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(json.Unmarshal(text, b), &wrong) && b.Source.Op != "" && b.Data != nil {
		return fmt.Errorf("it is an event by its source and data, but its %s is %s and no string", wrong.Field, article(wrong.Value))
	}
	return nil
}

func article(kind string) string {
	if strings.HasPrefix(kind, "a") || strings.HasPrefix(kind, "o") {
		return "an " + kind
	}
	return "a " + kind
}

// readBody reads an event; nil when it is none.
func readBody(text []byte, f *filters.Filter) (*occurrence, error) {
	var b body
	event, short := b.kind(text)
	if !event {
		return nil, b.mistyped(text)
	}
	if !isObject(b.Data) {
		return nil, errors.New("its data is no JSON object")
	}
	e := relay.Event{ID: b.ID, Type: b.Type, Table: b.Source.Table}
	if err := e.ReadBody(text); err != nil {
		return nil, err
	}
	o := &occurrence{Notes: []string{}}
	if short {
		op, _ := filters.ParseOp(b.Op)
		e.Op = relay.Op(op)
		o.Notes = append(o.Notes, "taken as an event, for its op and data; with --op it is a row")
	}
	return o, o.of(&e, f)
}

// of fills in what an event tells a filter.
func (o *occurrence) of(e *relay.Event, f *filters.Filter) error {
	if e.Hides(f) {
		return errors.New("the event was too large for the stream, and so were the names of its columns: the filter cannot be decided")
	}
	o.ID, o.Type, o.Table, o.event = e.ID, e.Type, e.Table, e.ForFilters()
	o.Op = o.event.Op.String()
	return nil
}

// row reads a row that is not wrapped into an event.
func (c *filtersTestCmd) row(a *app, f *filters.Filter, text []byte) (*occurrence, error) {
	if !isObject(text) {
		return nil, usageError{errors.New("the event is no JSON object: give a whole event, or the row that it is about")}
	}
	o := &occurrence{Op: c.Op, Notes: []string{}, event: filters.Event{Data: filters.NewDoc(text, nil)}}
	switch {
	case o.Op == "" && c.Before != "":
		o.Op = filters.OpUpdate.String()
	case o.Op == "":
		o.Op = filters.OpInsert.String()
		o.Notes = append(o.Notes, "only a row is given: taken as inserted; --op says otherwise")
	}
	op, ok := filters.ParseOp(o.Op)
	if !ok {
		return nil, usageError{fmt.Errorf("--op %q: want insert, update, delete, truncate or read", o.Op)}
	}
	o.event.Op = op
	switch {
	case c.Before != "" && op != filters.OpUpdate:
		return nil, usageError{errors.New("--before is the row before an update: it goes with --op=update")}
	case c.Before != "":
		before, err := a.input("row before", c.Before)
		if err != nil {
			return nil, err
		}
		if !isObject(before) {
			return nil, usageError{errors.New("--before is no JSON object")}
		}
		o.event.Before = filters.NewDoc(before, nil)
	case op == filters.OpUpdate:
		o.event.Before = filters.NewDoc([]byte("{}"), columns(text, f))
		o.Notes = append(o.Notes, "the row before is not known; --before gives it")
	}
	return o, nil
}

// isObject reports whether filters see a row in it.
func isObject(text []byte) bool {
	all, err := filters.Compile([]byte("{}"))
	return err == nil && all.Match(text) == filters.Yes
}

// columns are all that a filter can ask about in a row.
func columns(row []byte, f *filters.Filter) []string {
	names := slices.Clone(f.Keys())
	walkKeys(row, func(_, key string) bool {
		names = append(names, key)
		return false
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// look finds the event in the stream.
func (c *filtersTestCmd) look(ctx context.Context, a *app, f *filters.Filter) (*occurrence, error) {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return nil, err
	}
	client, err := readStream(ctx, a, cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	waiting := newProgress(a.stderr)
	ev, seq, err := client.Find(ctx, c.Event, natsstream.FindConfig{Newest: c.Newest, Progress: func(looked int, oldest time.Time) {
		waiting.say("looked at %d events, back to %s", looked, oldest.UTC().Format(time.RFC3339))
	}})
	if missing, ok := errors.AsType[*natsstream.NotFoundError](err); ok {
		remedy := "give its body as a file; zapier_webhook_logs.payload has it if it was delivered"
		if !missing.All {
			remedy = fmt.Sprintf("look further back with --newest=%d", 10*c.Newest)
		}
		return nil, fmt.Errorf("%w; %s", err, remedy)
	}
	if err != nil {
		return nil, err
	}
	o := &occurrence{Notes: []string{}, Seq: seq, stream: &ev}
	if err = ev.ReadBody(ev.Body); err == nil {
		err = o.of(&ev, f)
	}
	if err != nil {
		return nil, fmt.Errorf("message %d of the stream: %w", seq, err)
	}
	return o, nil
}

// readStream connects to where the stream is: an external server, or the listener of
// the one that runs in relay run.
func readStream(ctx context.Context, a *app, cfg config.Config) (*natsstream.Client, error) {
	log, _ := newLogger(a.stderr, cfg.Log)
	conn := natsstream.Config{URL: cfg.NATS.URL, Stream: cfg.NATS.Stream, Source: cfg.Source.Slot, Logger: log}
	if !cfg.NATS.Embedded() {
		return natsstream.Connect(ctx, conn)
	}
	const instead = "or give the event as a file"
	address, err := listener(cfg)
	if err != nil {
		return nil, &relay.SetupError{Err: err, Remedy: "set it to an address on which relay run serves the stream, " + instead}
	}
	conn.URL = secret.New("nats://" + address)
	client, err := natsstream.Connect(ctx, conn)
	if err != nil {
		return nil, &relay.SetupError{
			Err:    fmt.Errorf("the stream is served by relay run, and nothing answers at %s (RELAY_NATS_LISTEN)", address),
			Remedy: "start relay run, " + instead,
		}
	}
	return client, nil
}

// listener is where the embedded server of a running relay answers on this machine.
func listener(cfg config.Config) (string, error) {
	address := cfg.NATS.Listen
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("RELAY_NATS_LISTEN is %q: the relay's NATS server has no listener", address)
	}
	if port == "0" {
		chosen, err := readPorts(cfg.PortFile)
		if err != nil {
			return "", errors.New("RELAY_NATS_LISTEN has port 0, and RELAY_PORT_FILE does not tell which one the relay chose")
		}
		if host, port, err = net.SplitHostPort(chosen.NATS); err != nil {
			return "", errors.New("RELAY_PORT_FILE names no address for NATS")
		}
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
