package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnEventReachesOnlyThoseWhoMaySeeItsRow(t *testing.T) {
	t.Parallel()
	s := newStack(t, options{})
	// Subscribers: two users, one of them within a tenant too, and a second member of
	// that tenant.
	subscribers := map[string][2]string{"u1": {"u1", ""}, "u1 in t1": {"u1", "t1"}, "u2": {"u2", ""}, "u3 in t1": {"u3", "t1"}}
	agents, things, changes := map[string]*endpoint{}, map[string]*endpoint{}, map[string]*endpoint{}
	for name, who := range subscribers {
		agents[name] = s.subscribe(hook{user: who[0], tenant: who[1], event: "agent.created"})
		things[name] = s.subscribe(hook{user: who[0], tenant: who[1], event: "thing.created"})
		changes[name] = s.subscribe(hook{user: who[0], tenant: who[1], event: "thing.updated"})
	}
	p := s.start()
	s.db.Exec(`
		insert into things (ns, id, type, visibility) values
			('n', 'public', 'Skill', 'public'), ('n', 'private', 'Skill', 'private'), ('n', 'unlisted', 'Skill', 'unlisted');
		insert into agents (id, user_id, tenant_id, name) values
			('of u1', 'u1', null, 'x'), ('of u1 in t1', 'u1', 't1', 'x'), ('of u1 in t2', 'u1', 't2', 'x'), ('of u2', 'u2', null, 'x'),
			('of t1', null, 't1', 'x'), ('of nobody', null, null, 'x'), ('of a stranger', 'u9', 't9', 'x')`)
	// What was private until now says nothing about what it was.
	s.db.Exec(`update things set visibility = 'public', code = 'new' where id = 'private'`)
	s.db.Exec(`update things set visibility = 'private', code = 'hidden' where id = 'public'`)
	s.settle(p)

	require.Len(t, s.stream(p), 12, "the stream holds everything, its permissions guard it")
	wantAgents := map[string][]string{
		"u1":       {"agent.created of u1", "agent.created of u1 in t1", "agent.created of u1 in t2"},
		"u1 in t1": {"agent.created of t1", "agent.created of u1", "agent.created of u1 in t1"},
		"u2":       {"agent.created of u2"},
		"u3 in t1": {"agent.created of t1"},
	}
	for name := range subscribers {
		require.Equal(t, wantAgents[name], agents[name].names(), name)
		require.Equal(t, []string{"thing.created n/public"}, things[name].names(), name)
		require.Equal(t, []string{"thing.updated n/private"}, changes[name].names(), name)
		require.JSONEq(t, `{"visibility": "private"}`, string(changes[name].received()[0].Event.Previous), name)
	}
	p.stop()
}
