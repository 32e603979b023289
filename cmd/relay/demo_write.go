package main

import (
	"context"
	"fmt"
	"time"
)

// act is one transaction of the sample writer.
type act struct {
	table, text string
	sql         string
	id          string // format of the row's id, made from the round's number
	rollback    bool
}

// acts tell a story in a loop: what raises one event, two, none, one for the
// owner only, and one that is rolled back.
func acts() []act {
	return []act{
		{"things", "insert a Function in ns onet", `
			insert into things (ns, id, type, content, data) values ('onet', $1, 'Function', 'Analyse costs', '{"title": "Cost analysis", "status": "draft"}')`, "13-1051.%02d", false},
		{"things", "update it: data.status draft → reviewed", `
			update things set data = data || '{"status": "reviewed"}', updated_at = now() where ns = 'onet' and id = $1`, "13-1051.%02d", false},
		{"things", "touch updated_at alone: raises nothing", `
			update things set updated_at = now() where ns = 'onet' and id = $1`, "13-1051.%02d", false},
		{"agents", "insert an agent of demo-user", `
			insert into agents (id, user_id, name, type, status) values ($1, 'demo-user', 'Researcher', 'chat', 'active')`, "agent-%d", false},
		{"agents", "insert an agent of somebody else", `
			insert into agents (id, user_id, name, type, status) values ($1, 'other-user', 'Private', 'chat', 'active')`, "agent-x%d", false},
		{"workflow_runs", "insert a running run", `
			insert into workflow_runs (id, workflow_id, user_id, status, started_at) values ($1, 'wf-1', 'demo-user', 'running', now())`, "run-%d", false},
		{"workflow_runs", "status running → completed", `
			update workflow_runs set status = 'completed', output = '{"rows": 42}', completed_at = now() where id = $1`, "run-%d", false},
		{"workflow_runs", "insert another run", `
			insert into workflow_runs (id, workflow_id, user_id, status, started_at) values ($1, 'wf-2', 'demo-user', 'running', now())`, "run-f%d", false},
		{"workflow_runs", "status running → failed", `
			update workflow_runs set status = 'failed', error = 'upstream timed out', completed_at = now() where id = $1`, "run-f%d", false},
		{"things", "insert a private thing", `
			insert into things (ns, id, type, visibility) values ('brand', $1, 'Brand', 'private')`, "secret-%d", false},
		{"things", "insert three Skills in one statement", `
			insert into things (ns, id, type) select 'schema', $1 || '-' || i, 'Skill' from generate_series(1, 3) i`, "skill-%d", false},
		{"things", "insert, then roll back: raises nothing", `
			insert into things (ns, id, type) values ('ghost', $1, 'Function')`, "ghost-%d", true},
	}
}

// write plays the acts until ctx ends.
func (d *demo) write(ctx context.Context) error {
	for n := 1; ; n++ {
		for _, s := range acts() {
			if err := d.transact(ctx, s, n); err != nil {
				return err
			}
			if !sleep(ctx, d.cmd.Every) {
				return nil
			}
		}
	}
}

func (d *demo) transact(ctx context.Context, s act, n int) error {
	tx, err := d.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing after a commit
	if _, err := tx.Exec(ctx, s.sql, fmt.Sprintf(s.id, n)); err != nil {
		return fmt.Errorf("%s: %w", s.text, err)
	}
	d.screen.row(time.Now(), s.table, s.text)
	if s.rollback {
		return nil
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
