package e2e

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgtest"
	"github.com/dot-do/relay/outbox"
)

func TestWhatApplicationsStateThemselvesTravelsTheSameRoad(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	mine := s.subscribe(hook{event: "function.called", filter: `{"n": 1}`})
	all := s.subscribe(hook{event: "function.called"})
	others := s.subscribe(hook{user: "u2", event: "function.called"})
	p := s.start()

	emitted := pgtest.One[string](s.db, `select emit_event('function.called', jsonb_build_object('id', 'f', 'n', 1, 'canary', $1::text), 'u1')`, s.canary)
	inserted := pgtest.One[string](s.db, `
		insert into outbox_events (event_type, aggregate_type, aggregate_ns, aggregate_id, visibility, payload, metadata)
		values ('function.called', 'function', 'onet', 'f1', 'public', '{"id": "f", "n": 2.50}', '{"aggregate_version": 1, "trace": "x"}') returning event_id`)
	var appended []string
	err := pgx.BeginFunc(t.Context(), s.db.Pool, func(tx pgx.Tx) (err error) {
		appended, err = outbox.Append(t.Context(), tx, outbox.Event{Type: "function.called", Owner: outbox.Owner{UserID: "u2"}, Payload: map[string]any{"id": "f", "n": 3}})
		return err
	})
	require.NoError(t, err)
	rolledBack := must(s.db.Pool.Begin(t.Context()))(t)
	_, err = rolledBack.Exec(t.Context(), `select emit_event('function.called', '{"n": 4}', 'u1')`)
	require.NoError(t, err)
	require.NoError(t, rolledBack.Rollback(t.Context()))
	s.settle(p)

	events := s.stream(p)
	require.Len(t, events, 3)
	for i, id := range []string{emitted, inserted, appended[0]} {
		require.Equal(t, id, events[i].Event.ID)
	}
	require.JSONEq(t, `{"id": "f", "n": 1, "canary": "`+s.canary+`"}`, string(events[0].Event.Data))
	require.Equal(t, "function/onet/f1", events[1].Event.key())
	require.Contains(t, string(events[1].Event.Data), "2.50")
	require.JSONEq(t, `{"aggregate_version": 1, "trace": "x"}`, string(events[1].Event.Metadata))
	ids := func(e *endpoint) (out []string) {
		for _, d := range e.received() {
			out = append(out, d.Event.ID)
		}
		return out
	}
	require.Equal(t, []string{emitted}, ids(mine))
	require.Equal(t, []string{emitted, inserted}, ids(all))
	require.Equal(t, []string{inserted, appended[0]}, ids(others))
	p.stop()
}
