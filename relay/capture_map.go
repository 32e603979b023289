package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
)

// mappedBatch is one source batch as events. Its memory is used again.
type mappedBatch struct {
	events []Event
	bodies Buffer
	parked []ParkedEvent // to be kept before the events are published
	commit LSN
	more   bool                        // others follow at once
	after  func(context.Context) error // to be done once the events are stored, before the next batch
}

func (b *mappedBatch) reset(commit LSN) {
	clear(b.events)
	b.events = b.events[:0]
	clear(b.parked)
	b.parked = b.parked[:0]
	b.bodies.Reset()
	b.commit, b.more, b.after = commit, false, nil
}

// mapper state of one session, owned by the mapping goroutine.
type mapping struct {
	*Capture
	mapper  *Mapper
	refused map[string]string // last reported error, by mapping
	broken  map[string]string // last reported error of a schema, by event type
	parked  map[string]*tally // by table and mapping
	pending *Catalog          // what the open transaction made of the catalog; nil: nothing
	commit  LSN               // of the transaction at hand
	row     Position          // of the change at hand

	at   *mappedBatch // that is being filled
	free <-chan *mappedBatch
	out  chan<- *mappedBatch

	relation *Relation // of the last change, and
	table    string    // its name
	role     role      // what it is to the relay
}

// role tells the relay's own tables from those of the application.
type role uint8

const (
	otherTable role = iota
	eventsTable
	mappingsTable
	webhooksTable
	chunksTable
	parkedTable
)

func (t *ControlTables) role(table string) role {
	switch table {
	case t.Events:
		return eventsTable
	case t.Mappings:
		return mappingsTable
	case t.Webhooks:
		return webhooksTable
	case t.Chunks:
		return chunksTable
	case t.Parked:
		return parkedTable
	}
	return otherTable
}

// mapBatches reads from the source until it fails or ctx ends.
//
// A row whose mapping panics is parked. A panic outside of that ends the session and
// not the process: what is published stays exact, the change is read again, and what it
// was is said.
func (c *Capture) mapBatches(ctx context.Context, free <-chan *mappedBatch, out chan<- *mappedBatch) (err error) {
	m := &mapping{Capture: c, refused: map[string]string{}, broken: map[string]string{}, parked: map[string]*tally{}, free: free, out: out}
	defer func() {
		if r := recover(); r != nil {
			c.log.ErrorContext(ctx, "panic while mapping", "position", m.row.String(), "panic", panicText(r), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic while mapping the change at %s, which the slot keeps: report it with the stack in the log", m.row)
		}
	}()
	m.compile(ctx)
	for {
		batch, err := c.cfg.Source.Next(ctx)
		if err != nil {
			return fmt.Errorf("read from slot %q: %w", c.slot.Name, err)
		}
		if err = m.take(ctx, batch.Commit); err == nil {
			err = m.mapBatch(ctx, batch)
		}
		if c.cfg.Observer.Captured != nil {
			c.cfg.Observer.Captured(len(batch.Changes))
		}
		more := batch.More
		batch.Release()
		if err != nil {
			return err
		}
		m.at.more = more
		if err := m.give(ctx); err != nil {
			return err
		}
	}
}

// take begins to fill a batch.
func (m *mapping) take(ctx context.Context, commit LSN) error {
	select {
	case m.at = <-m.free:
		m.at.reset(commit)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// give hands the batch on to be published. What it has parked is safe before: the stream
// only says that it is.
func (m *mapping) give(ctx context.Context) error {
	if len(m.at.parked) > 0 {
		if err := m.cfg.Parking.Park(ctx, m.slot.Name, m.at.parked); err != nil {
			return fmt.Errorf("park %d events: %w", len(m.at.parked), err)
		}
	}
	select {
	case m.out <- m.at:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cut publishes what the batch has so far on its own, with something to be done
// after it. The batch's end, to which the slot may be confirmed, belongs to the rest.
func (m *mapping) cut(ctx context.Context, after func(context.Context) error) error {
	commit := m.at.commit
	m.at.commit, m.at.after = 0, after
	if err := m.give(ctx); err != nil {
		return err
	}
	return m.take(ctx, commit)
}

func (m *mapping) mapBatch(ctx context.Context, batch *Batch) error {
	for i := range batch.Changes {
		c := &batch.Changes[i]
		m.row = c.Position
		if c.Position.CommitLSN != m.commit {
			if err := m.commitCatalog(ctx); err != nil {
				return err
			}
			m.commit = c.Position.CommitLSN
		}
		if err := m.change(ctx, c, m.at); err != nil {
			return err
		}
	}
	if !batch.Open {
		return m.commitCatalog(ctx)
	}
	return nil
}

// change maps one change, and leaves out what the stream holds already. Changes
// of the configuration count in any case: the catalog begins at the slot's
// position, not at the stream's end.
func (m *mapping) change(ctx context.Context, c *Change, out *mappedBatch) error {
	if c.Relation != m.relation {
		m.relation, m.table = c.Relation, c.Relation.FullName()
		m.role = m.cfg.Tables.role(m.table)
	}
	if d := m.cfg.Backfill; d != nil && d.open.Load() {
		d.saw(c, m.table)
	}
	switch m.role {
	case eventsTable:
		return m.configure(c, "event_type", func(cat *Catalog) map[string]json.RawMessage { return cat.Events })
	case mappingsTable:
		return m.configure(c, "id", func(cat *Catalog) map[string]json.RawMessage { return cat.Mappings })
	case chunksTable:
		return m.land(ctx, c, out)
	case webhooksTable, parkedTable, otherTable:
	}
	if lastPlace(c.Position).Compare(m.skip) <= 0 {
		return nil
	}
	from := len(out.events)
	m.mapRow(ctx, c, out)
	for i := from; i < len(out.events); i++ {
		out.events[i].Lineage = m.cp.Lineage
		out.events[i].Refilled = out.events[i].CommittedAt.Before(m.refill)
	}
	for from < len(out.events) && out.events[from].Position.Compare(m.skip) <= 0 {
		out.events = append(out.events[:from], out.events[from+1:]...)
	}
	m.parkViolations(ctx, c, out, from)
	return nil
}

// configure notes a changed row of the registry or of the mappings. It comes into
// force with the transaction's end, as a whole.
func (m *mapping) configure(c *Change, key string, rows func(*Catalog) map[string]json.RawMessage) error {
	if m.pending == nil {
		m.pending = m.catalog.Clone()
	}
	target := rows(m.pending)
	if c.Op == OpTruncate {
		clear(target)
		return nil
	}
	i := c.Relation.Column(key)
	if i < 0 {
		return Halt("registry_changed", fmt.Errorf("table %s has no column %s", c.Relation.FullName(), key), "restore the table as the migrations made it; the change stays in the log, so then drop the slot and "+acceptGap)
	}
	var before json.RawMessage
	if c.Old != nil {
		id := textOf(c.Old, i)
		before = target[id]
		delete(target, id)
	}
	if c.New == nil {
		return nil
	}
	id := textOf(c.New, i)
	if before == nil {
		before = target[id]
	}
	row, err := configRow(c, before)
	if err != nil {
		// Half a mapping is another mapping, without its filter or its redaction.
		delete(target, id)
		m.log.Error("configuration row left out", "relation", c.Relation.FullName(), "id", id, "err", err)
		return nil
	}
	target[id] = row
	return nil
}

// configRow renders a row of the configuration. Values that the log left out
// because they did not change are taken from the row as it was.
func configRow(c *Change, before json.RawMessage) (json.RawMessage, error) {
	row := json.RawMessage(appendRow(nil, c.Relation, c.New, nil))
	missing := unavailable(c.Relation, c.New, nil)
	if len(missing) == 0 {
		return row, nil
	}
	var old, whole map[string]json.RawMessage
	if err := json.Unmarshal(row, &whole); err != nil {
		return nil, fmt.Errorf("read the row: %w", err)
	}
	if len(before) > 0 {
		if err := json.Unmarshal(before, &old); err != nil {
			return nil, fmt.Errorf("read the row as it was: %w", err)
		}
	}
	for _, name := range missing {
		value, known := old[name]
		if !known {
			return nil, fmt.Errorf("the log did not carry %s; run: ALTER TABLE %s REPLICA IDENTITY FULL, and write the row again", name, quoteTable(c.Relation))
		}
		whole[name] = value
	}
	return json.Marshal(whole)
}

// commitCatalog puts the finished transaction's configuration into force, after
// it was stored: a replay from before must find it, and one from behind too.
func (m *mapping) commitCatalog(ctx context.Context) error {
	if m.pending == nil {
		return nil
	}
	m.catalog, m.pending = m.pending, nil
	if err := m.cfg.Registry.SaveAsOf(ctx, m.slot.Name, m.commit, m.catalog, m.slot.Confirmed); err != nil {
		return fmt.Errorf("save the mappings as of %s: %w", m.commit, err)
	}
	m.compile(ctx)
	m.log.InfoContext(ctx, "mappings changed", "commit_lsn", m.commit.String(), "mappings", len(m.catalog.Mappings), "event_types", len(m.catalog.Events))
	if m.cfg.Observer.Registry != nil {
		m.cfg.Observer.Registry(m.catalog.Tables())
	}
	return nil
}

// compile makes a new mapper of the catalog, and takes back what was said of
// mappings that are no longer refused.
func (m *mapping) compile(ctx context.Context) {
	said, unusable := maps.Clone(m.refused), maps.Clone(m.broken)
	earlier, schemas := m.mapper, (*Schemas)(nil)
	if earlier != nil {
		schemas = earlier.schemas
	}
	m.mapper = NewMapper(MapperConfig{
		Identity: Identity{SystemID: m.cp.SystemID, Lineage: m.cp.Lineage},
		Catalog:  m.catalog, Outbox: m.cfg.Tables.Outbox, MaxBody: m.maxBody,
		Refuse: func(name string, err error) {
			delete(said, name)
			m.refuse(ctx, name, err)
		},
		Broken: func(err *SchemaError) {
			delete(unusable, err.EventType)
			m.refuseSchema(ctx, err.EventType, err)
		},
		Unchecked: m.cfg.Observer.Unchecked, Earlier: schemas,
	})
	if earlier != nil {
		m.mapper.adopt(earlier)
	}
	for name := range said {
		m.refuse(ctx, name, nil)
	}
	for name := range unusable {
		m.refuseSchema(ctx, name, nil)
	}
}

// refuseSchema reports a payload schema as refuse does a mapping.
func (m *mapping) refuseSchema(ctx context.Context, eventType string, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if m.broken[eventType] == reason {
		return
	}
	if err == nil {
		delete(m.broken, eventType)
		m.log.InfoContext(ctx, "payload schema is no longer refused", "event_type", eventType)
	} else {
		m.broken[eventType] = reason
		m.log.ErrorContext(ctx, "payload schema refused", "event_type", eventType, "err", err)
	}
	if m.cfg.Observer.Schema != nil {
		m.cfg.Observer.Schema(eventType, err)
	}
}

// refuse reports a mapping once for each reason, and again when the reason went.
func (m *mapping) refuse(ctx context.Context, name string, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if m.refused[name] == reason {
		return
	}
	if _, undecided := errors.AsType[*UndecidedError](err); err == nil {
		delete(m.refused, name)
		m.log.InfoContext(ctx, "mapping is no longer refused", "mapping", name)
	} else {
		m.refused[name] = reason
		if undecided {
			m.log.WarnContext(ctx, "mapping could not decide a change", "mapping", name, "err", err)
		} else {
			m.log.WarnContext(ctx, "mapping refused", "mapping", name, "err", err)
		}
	}
	if m.cfg.Observer.Refused != nil {
		m.cfg.Observer.Refused(name, err)
	}
}
