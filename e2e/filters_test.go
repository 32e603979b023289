package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFiltersChooseAndABrokenOneStopsNobody(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	functions := s.subscribe(hook{event: "thing.created", filter: `{"type": "Function", "ns": "onet"}`})
	nested := s.subscribe(hook{event: "thing.created", filter: `{"data": {"level": 3, "tags": ["b"]}}`})
	all := s.subscribe(hook{event: "thing.created"})
	broken := s.subscribe(hook{event: "thing.created", filter: `{"$gtee": 1}`})
	p := s.start()
	s.db.Exec(`insert into things (ns, id, type, content, data) values
		('onet', '1', 'Function', $1, '{"level": 3, "tags": ["a", "b"]}'), ('onet', '2', 'Skill', $1, '{"level": 3}'),
		('schema', '3', 'Function', $1, '{"level": "3", "tags": ["b"]}'), ('onet', '4', 'function', $1, '{}'),
		('onet', '5', 'Function', $1, '{"level": 3.0, "tags": ["b"], "more": null}')`, s.canary)
	later := s.subscribe(hook{event: "thing.created", filter: `{"type": {"$regex": "("}}`})
	s.db.Exec(`insert into things (ns, id, type, content) values ('onet', '6', 'Function', $1)`, s.canary)
	s.settle(p)

	require.Equal(t, []string{"thing.created onet/1", "thing.created onet/5", "thing.created onet/6"}, functions.names())
	require.Equal(t, []string{"thing.created onet/1", "thing.created onet/5"}, nested.names())
	require.Len(t, all.names(), 6)
	require.Empty(t, broken.names())
	require.Empty(t, later.names())
	for _, e := range []*endpoint{broken, later} {
		warnings := p.logged(func(line logLine) bool { return line["subscription_id"] == e.id && line["level"] == "WARN" })
		require.Len(t, warnings, 1, "the log names the webhook, once")
	}

	// Mended by SQL, it works from there on.
	s.db.Exec(`update zapier_webhooks set filters = '{"id": "7"}' where id = $1`, broken.id)
	s.db.Exec(`insert into things (ns, id, type, content) values ('onet', '7', 'Function', $1)`, s.canary)
	s.settle(p)
	require.Equal(t, []string{"thing.created onet/7"}, broken.names())
	p.stop()
}
