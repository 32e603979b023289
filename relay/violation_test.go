package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
)

const onlyAgents = `{"required":["id","type"],"properties":{"type":{"const":"Agent"}}}`

var registryTable = &relay.Relation{OID: 8, Schema: "public", Name: "zapier_webhook_events", ReplicaIdentity: relay.IdentityFull, Columns: []relay.Column{
	{Name: "event_type", Type: textType, Key: true}, {Name: "enabled", Type: &relay.Type{OID: 16}}, {Name: "payload_schema", Type: &relay.Type{OID: 3802}},
}}

// registered is the commit that gives an event type its row in the registry.
func registered(lsn relay.LSN, eventType, enabled, schema string) []relay.Batch {
	return commit(lsn, 1, relay.Change{Op: relay.OpUpdate, Relation: registryTable, New: tuple(eventType, enabled, schema)})
}

// schemas gives the types of the world's catalog their schemas.
func (w *world) schemas(of map[string]string) *world {
	for name, schema := range of {
		w.memory.Present.Events[name] = json.RawMessage(`{"event_type":"` + name + `","enabled":true,"payload_schema":` + schema + `}`)
	}
	return w
}

func insertTyped(id, typ string) relay.Change {
	c := insertThing(id)
	c.New = tuple(id, typ, "2026-11-23 10:00:00+00")
	return c
}

var parkedTable = func() *relay.Relation {
	rel := &relay.Relation{OID: 12, Schema: "public", Name: "relay_parked_events", ReplicaIdentity: relay.IdentityFull}
	for _, name := range []string{
		"slot_name", "event_id", "event_type", "source_table", "subject", "user_id", "tenant_id", "visibility", "occurred_at", "body", "reason", "released_at",
	} {
		rel.Columns = append(rel.Columns, relay.Column{Name: name, Type: textType, Key: name == "slot_name" || name == "event_id"})
	}
	return rel
}()

// parkedRow is a row of relay_parked_events; released "-" is NULL.
func parkedRow(slot string, e relay.ParkedEvent, released string) relay.Tuple {
	return row(slot, e.ID, e.Type, e.Table, e.Key, e.Owner.UserID, e.Owner.TenantID, e.Visibility.String(),
		e.OccurredAt.UTC().Format("2006-01-02 15:04:05.999999+00"), string(e.Body), e.Reason, released)
}

// released is the update by which an operator releases a parked event. The large body
// is in the old row only, as Postgres sends it.
func released(e relay.ParkedEvent) relay.Change {
	c := relay.Change{Op: relay.OpUpdate, Relation: parkedTable, Old: parkedRow("relay", e, "-"), New: parkedRow("relay", e, "2026-11-24 10:00:00+00")}
	c.New[9] = relay.Value{Kind: relay.Unavailable}
	return c
}

func ids(events []relay.Event) []string {
	out := make([]string, len(events))
	for i := range events {
		out[i] = events[i].ID
	}
	return out
}

func TestAnEventThatViolatesItsSchemaIsParkedAndAllOthersFlow(t *testing.T) {
	both := []string{thingCreated, mappingRow("m1", "public.things", "insert", "function.created", "")}
	whole := newWorld(both...)
	whole.lineage(t)
	changes := commit(start+0x40, 2, insertTyped("1", "Agent"), insertTyped("2", "secret"), insertTyped("3", "Agent"))
	whole.log.Add(changes...)
	whole.run(t, 6)

	w := newWorld(both...).schemas(map[string]string{"thing.created": onlyAgents, "function.created": `{"type":"object"}`})
	w.lineage(t)
	w.log.Add(changes...)
	var violated []string
	stop := w.start(t, func(cfg *relay.CaptureConfig) {
		cfg.Observer.Violated = func(eventType string, at relay.Position) { violated = append(violated, eventType+" "+at.String()) }
	})
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x48 }, 5*time.Second, time.Millisecond, "nothing holds the slot")
	require.NoError(t, stop())

	was, is := whole.stream.Events(), w.stream.Events()
	at := slices.IndexFunc(is, func(e relay.Event) bool { return e.Type == relay.ControlParked })
	require.Equal(t, "thing.created 2", keys(was)[at])
	require.Equal(t, []string{"thing.created " + was[at].Position.String()}, violated)
	require.Equal(t, slices.Delete(ids(was), at, at+1), slices.Delete(ids(is), at, at+1), "also the other event of the same row")
	r := parkedRecord(t, is[at])
	require.Contains(t, r.Remedy, "`relay parked retry`")
	r.Remedy = ""
	require.Equal(t, relay.ParkedRecord{
		Slot: "relay", Table: "public.things", Op: "insert", Position: was[at].Position.String(), Key: json.RawMessage(`{"id":"2"}`),
		EventType: "thing.created", EventID: was[at].ID, CommittedAt: committed, Reason: "data/type does not satisfy #/properties/type/const",
	}, r)
	require.Equal(t, was[at].Position, is[at].Position)
	require.Regexp(t, `^parked_[a-z2-7]{26}$`, is[at].ID)

	kept := w.memory.Parked("relay")
	require.Len(t, kept, 1)
	require.Equal(t, string(was[at].Body), string(kept[0].Body))
	require.Equal(t, [4]any{was[at].ID, was[at].Position, "2", relay.VisibleToEveryone}, [4]any{kept[0].ID, kept[0].Position, kept[0].Key, kept[0].Visibility})
}

func TestASchemaTakesEffectAtItsOwnCommitAlsoWhenReadAgain(t *testing.T) {
	w := newWorld(thingCreated)
	w.log.Add(commit(start+0x40, 1, insertTyped("1", "x"))...)
	w.log.Add(registered(start+0x80, "thing.created", "t", onlyAgents)...)
	w.log.Add(commit(start+0xC0, 1, insertTyped("2", "x"))...)
	w.log.Add(registered(start+0x100, "thing.created", "t", `{}`)...)
	w.log.Add(commit(start+0x140, 1, insertTyped("3", "x"))...)
	w.run(t, 3)
	require.Equal(t, []string{"thing.created 1", "relay.control.parked ", "thing.created 3"}, keys(w.stream.Events()))

	// The stream lost its end; the schemas are those of the time, not of now.
	again := newWorld(thingCreated)
	again.log, again.memory = relaytest.NewLog("relay", start+0x88), w.memory
	require.NoError(t, again.memory.Save(t.Context(), relay.Checkpoint{Slot: "relay", SystemID: "7000000000000000001", Lineage: "l", Confirmed: start + 0x88}))
	again.log.Add(commit(start+0xC0, 1, insertTyped("2", "x"))...)
	again.run(t, 1)
	require.Equal(t, []string{"relay.control.parked "}, keys(again.stream.Events()))
}

func TestAReleasedEventIsTheOneThatWasParkedAtALaterPlace(t *testing.T) {
	w := newWorld(mappingRow("m0", "public.things", "insert", "thing.created", `,"audience":"owner","user_column":"id"`)).schemas(map[string]string{"thing.created": onlyAgents})
	w.log.Add(commit(start+0x40, 1, insertTyped("1", "x"))...)
	w.run(t, 1)
	kept := w.memory.Parked("relay")[0]
	require.Equal(t, relay.Owner{UserID: "1"}, kept.Owner)

	w.memory.Release("relay", kept.ID)
	w.log.Add(commit(start+0x80, 1, released(kept))...) // in vain: the schema is as it was
	w.run(t, 2)
	again := w.memory.Parked("relay")
	require.Len(t, again, 1, "it waits again")
	require.Equal(t, start+0x80, again[0].Position.CommitLSN)
	r := parkedRecord(t, w.stream.Events()[1])
	require.Equal(t, kept.ID+" "+kept.Reason, r.EventID+" "+r.Reason)

	w.log.Add(registered(start+0xC0, "thing.created", "t", `{"required":["id"]}`)...)
	var told []string
	w.log.Add(commit(start+0x100, 2, insertTyped("2", "x"), released(again[0]), insertTyped("3", "x"))...)
	stop := w.start(t, func(cfg *relay.CaptureConfig) {
		cfg.Observer.Released = func(eventType string) { told = append(told, eventType) }
	})
	require.Eventually(t, func() bool { return w.log.Confirmed() == start+0x108 }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	require.Equal(t, []string{"thing.created"}, told)
	all := w.stream.Events()
	require.Equal(t, []string{"relay.control.parked ", "relay.control.parked ", "thing.created 2", "thing.created 1", "thing.created 3"}, keys(all))
	e := all[3]
	require.Equal(t, kept.ID, e.ID)
	require.Equal(t, string(kept.Body), string(e.Body), "byte for byte, with the lsn of its own commit")
	require.Equal(t, [3]any{kept.Owner, kept.Visibility, kept.Table}, [3]any{e.Owner, e.Visibility, e.Table})
	require.True(t, kept.OccurredAt.Equal(e.OccurredAt))
	require.JSONEq(t, `{"id":"1","type":"x","updated_at":"2026-11-23T10:00:00Z"}`, string(e.Data))
}

func TestOnlyAReleaseInThisSlotPublishes(t *testing.T) {
	e := relay.ParkedEvent{
		ID: outboxID, Type: "thing.created", Table: "public.outbox_events", OccurredAt: committed,
		Body: []byte(`{"id":"` + outboxID + `","type":"thing.created","source":{"op":"insert"},"data":{}}`),
	}
	const when = "2026-11-24 10:00:00+00"
	change := func(op relay.Op, before, after relay.Tuple) relay.Change {
		return relay.Change{Op: op, Relation: parkedTable, Old: before, New: after}
	}
	broken, disabled := e, e
	broken.Body = []byte(`{"data":`)
	disabled.Type = "thing.updated"
	w := newWorld()
	w.memory.Present.Events["thing.updated"] = json.RawMessage(`{"enabled":false}`)
	w.log.Add(commit(start+0x40, 3,
		change(relay.OpInsert, nil, parkedRow("relay", e, "-")),
		change(relay.OpInsert, nil, parkedRow("relay", e, when)), // of a backup that is restored
		change(relay.OpUpdate, parkedRow("relay", e, "-"), parkedRow("relay", e, "-")),
		change(relay.OpUpdate, parkedRow("relay", e, when), parkedRow("relay", e, when)),
		change(relay.OpUpdate, parkedRow("relay", e, when), parkedRow("relay", e, "-")),
		change(relay.OpUpdate, parkedRow("other", e, "-"), parkedRow("other", e, when)),
		change(relay.OpDelete, parkedRow("relay", e, when), nil),
		change(relay.OpTruncate, nil, nil),
		change(relay.OpUpdate, parkedRow("relay", broken, "-"), parkedRow("relay", broken, when)),
		change(relay.OpUpdate, parkedRow("relay", disabled, "-"), parkedRow("relay", disabled, when)),
		change(relay.OpUpdate, parkedRow("relay", e, "-"), parkedRow("relay", e, when)),
	)...)
	w.run(t, 3)
	all := w.stream.Events()
	require.Equal(t, []string{relay.ControlParked, relay.ControlParked, "thing.created"}, []string{all[0].Type, all[1].Type, all[2].Type})
	require.Contains(t, parkedRecord(t, all[0]).Reason, "its body in relay_parked_events cannot be read any more")
	require.Equal(t, "event type thing.updated is disabled in zapier_webhook_events", parkedRecord(t, all[1]).Reason)
}

// TestWhatViolatesIsParkedOnceOverAnyCrash ends a session after each message: parked and
// published is in the end what one session parks and publishes.
func TestWhatViolatesIsParkedOnceOverAnyCrash(t *testing.T) {
	changes := []relay.Change{insertTyped("1", "x"), insertTyped("2", "Agent"), insertTyped("3", "x"), insertTyped("4", "x"), insertTyped("5", "Agent")}
	mappings := []string{thingCreated, mappingRow("m1", "public.things", "insert", "function.created", "")}
	var worlds [2]*world
	for i := range worlds {
		w := newWorld(mappings...).schemas(map[string]string{"thing.created": onlyAgents})
		worlds[i] = w
		w.lineage(t)
		w.log.Add(commit(start+0x40, 2, changes...)...)
		for stop := 1; stop < 10 && i == 0; stop++ {
			w.stream.Fail = func(stored int) error {
				if stored == stop {
					return errCrash
				}
				return nil
			}
			require.ErrorIs(t, w.crashOrFinish(t, 99), errCrash)
		}
		w.stream.Fail = nil
		w.run(t, 10)
	}
	one, many := worlds[1].stream.Events(), worlds[0].stream.Events()
	for i := range one {
		require.Equal(t, one[i].ID+" "+string(one[i].Body), many[i].ID+" "+string(many[i].Body))
	}
	require.Equal(t, worlds[1].memory.Parked("relay"), worlds[0].memory.Parked("relay"))
	require.Len(t, worlds[0].memory.Parked("relay"), 3)
}

func TestASchemaThatCannotBeUsedParksItsEventsAndStopsNoOthers(t *testing.T) {
	w := newWorld(thingCreated, mappingRow("m1", "public.things", "insert", "function.created", "")).
		schemas(map[string]string{"thing.created": `{"$ref":"https://schemas.example.com/thing.json"}`, "function.created": onlyAgents})
	w.log.Add(commit(start+0x40, 1, insertTyped("1", "Agent"))...)
	w.log.Add(registered(start+0x80, "agent.deleted", "t", `{"type":"object"}`)...) // of it nothing is said again
	w.log.Add(registered(start+0xC0, "thing.created", "t", onlyAgents)...)
	w.log.Add(commit(start+0x100, 1, insertTyped("2", "Agent"))...)
	var said []string
	stop := w.start(t, func(cfg *relay.CaptureConfig) {
		cfg.Observer.Schema = func(eventType string, err error) { said = append(said, fmt.Sprintf("%s: %v", eventType, err)) }
	})
	require.Eventually(t, func() bool { return len(w.stream.Events()) == 4 }, 5*time.Second, time.Millisecond)
	require.NoError(t, stop())
	all := keys(w.stream.Events())
	slices.Sort(all[:2])
	require.Equal(t, []string{"function.created 1", "relay.control.parked "}, all[:2])
	require.NotContains(t, strings.Join(all[2:], ","), "parked")
	require.Equal(t, []string{
		`thing.created: payload_schema of event type thing.created cannot be used: it refers to "https://schemas.example.com/thing.json", and nothing outside of the schema is read: ` +
			"put what is meant under $defs, and refer to #/$defs/…; its events are parked until it is corrected in zapier_webhook_events, and published by `relay parked retry` then",
		"thing.created: <nil>",
	}, said)
}

func TestOutboxEventsAreHeldToTheirSchema(t *testing.T) {
	w := newWorld().schemas(map[string]string{"thing.created": `{"required":["n"]}`})
	w.log.Add(commit(start+0x40, 1,
		relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: row("1", outboxID, "thing.created", "-", "-", "-", "ada", "-", "private", `{"m": "secret"}`, `{"n": 1}`, otherTime)},
		relay.Change{Op: relay.OpInsert, Relation: outboxTable, New: row("2", "evt_b", "thing.created", "-", "-", "-", "-", "-", "public", `{"n": 1}`, `{}`, otherTime)},
	)...)
	w.run(t, 2)
	require.Equal(t, []string{"relay.control.parked", "thing.created"}, []string{w.stream.Events()[0].Type, w.stream.Events()[1].Type})
	r := parkedRecord(t, w.stream.Events()[0])
	require.Equal(t, outboxID+" data lacks n", r.EventID+" "+r.Reason)
	kept := w.memory.Parked("relay")
	require.Equal(t, relay.Owner{UserID: "ada"}, kept[0].Owner)
	require.Equal(t, "2026-01-02T03:04:05.6Z", kept[0].OccurredAt.UTC().Format(time.RFC3339Nano), "its own time")
}

func TestDataThatIsNotWholeIsPublishedUnchecked(t *testing.T) {
	catalog := catalogOf(agentMapping("update", ""))
	catalog.Events["thing.updated"] = json.RawMessage(`{"enabled":true,"payload_schema":{"required":["config"]}}`)
	unchecked := 0
	m := relay.NewMapper(relay.MapperConfig{Catalog: catalog, MaxBody: 1000, Refuse: func(string, error) {}, Unchecked: func(string) { unchecked++ }})
	for _, c := range []relay.Change{
		{Op: relay.OpUpdate, Old: row("a", "u", "-", "public", "?", "1", "-"), New: row("a", "u", "-", "public", "?", "2", "-")},
		{Op: relay.OpUpdate, Old: row("a", "u", "-", "public", "{}", "1", "-"), New: row("a", "u", "-", "public", "{}", strings.Repeat("2", 2000), "-")},
	} {
		c.Relation = agents
		before := unchecked
		require.Len(t, m.Map(nil, &relay.Buffer{}, &c), 1)
		require.Equal(t, before+1, unchecked)
	}
}

func TestATypeWithoutASchemaIsNotChecked(t *testing.T) {
	insert := relay.Change{Op: relay.OpInsert, Relation: things, New: tuple("1", "Agent", "2026-11-23 10:00:00+00")}
	allocs := map[string]float64{}
	for name, schema := range map[string]string{"": "", "null": `null`, "true": `true`, "empty": `{}`, "object": `{"type":"object"}`, "titled": `{"title":"t","type":"object"}`, "one": onlyAgents} {
		catalog := catalogOf(thingCreated)
		if schema != "" {
			catalog.Events["thing.created"] = json.RawMessage(`{"enabled":true,"payload_schema":` + schema + `}`)
		}
		m := relay.NewMapper(relay.MapperConfig{Catalog: catalog, Refuse: func(string, error) {}})
		var buf relay.Buffer
		events := make([]relay.Event, 0, 4)
		allocs[name] = testing.AllocsPerRun(200, func() {
			buf.Reset()
			events = m.Map(events[:0], &buf, &insert)
		})
	}
	require.Greater(t, allocs["one"], allocs[""]+3, "this one is checked")
	delete(allocs, "one")
	require.Len(t, slices.Compact(slices.Sorted(maps.Values(allocs))), 1, "%v", allocs)
}

func TestSchemasSayWhyAnEventMayNotBePublished(t *testing.T) {
	c := catalogOf()
	c.Events["agent.deleted"] = json.RawMessage(`{"enabled":false}`)
	c.Events["thing.created"] = json.RawMessage(`{"enabled":true,"payload_schema":{"required":["id"]}}`)
	c.Events["thing.updated"] = json.RawMessage(`{"enabled":true,"payload_schema":{"type":"objekt"}}`)
	c.Events["broken.row"] = json.RawMessage(`{"enabled":`)
	s, errs := c.Schemas(nil)
	require.Len(t, errs, 1)
	require.Equal(t, "thing.updated", errs[0].EventType)
	require.Equal(t, 1, s.Enforced())
	for eventType, want := range map[string]string{
		"function.created": "", "thing.created": "data lacks id", "agent.deleted": "event type agent.deleted is disabled in zapier_webhook_events",
		"broken.row": "event type broken.row is not in zapier_webhook_events", "no.such": "event type no.such is not in zapier_webhook_events", "thing.updated": errs[0].Error(),
	} {
		whole, err := s.Check(&relay.Event{Type: eventType, Data: []byte(`{}`)})
		require.True(t, whole)
		if want == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, want)
		}
	}
	later := c.Clone()
	later.Events["thing.created"] = json.RawMessage(`{"enabled":true,"payload_schema":{"required":["ns"]}}`)
	next, errs := later.Schemas(s)
	require.Len(t, errs, 1, "what is still wrong is still said")
	_, err := next.Check(&relay.Event{Type: "thing.created", Data: []byte(`{"id":1}`)})
	require.EqualError(t, err, "data lacks ns")
}

// refusingParking is a database that is away.
type refusingParking struct{ err error }

func (p refusingParking) Park(context.Context, string, []relay.ParkedEvent) error { return p.err }

func TestNothingIsSaidToBeParkedBeforeItIsSafe(t *testing.T) {
	w := newWorld(thingCreated).schemas(map[string]string{"thing.created": onlyAgents})
	w.log.Add(commit(start+0x40, 1, insertTyped("1", "Agent"), insertTyped("2", "x"), insertTyped("3", "Agent"))...)
	c := w.capture(t, func(cfg *relay.CaptureConfig) { cfg.Parking = refusingParking{errCrash} })
	err := c.Run(t.Context())
	require.ErrorIs(t, err, errCrash)
	require.ErrorContains(t, err, "park 1 events")
	require.Equal(t, []string{"thing.created 1"}, keys(w.stream.Events()), "nor is anything behind it published")
	require.Less(t, w.log.Confirmed(), start+0x48)

	w.run(t, 3)
	require.Equal(t, []string{"thing.created 1", "relay.control.parked ", "thing.created 3"}, keys(w.stream.Events()))
	require.Len(t, w.memory.Parked("relay"), 1)
}
