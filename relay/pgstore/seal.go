package pgstore

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/internal/secret"
)

const (
	sealRows = 100 // per statement
	// maxPlain bounds how many ids are remembered; past it the table is searched.
	maxPlain = 10_000
)

// plainSecrets are the ids of rows that were seen with a plain signing secret.
type plainSecrets struct {
	mu       sync.Mutex
	ids      map[string]struct{}
	overflow bool
}

func (p *plainSecrets) add(ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids == nil {
		p.ids = map[string]struct{}{}
	}
	for _, id := range ids {
		if len(p.ids) >= maxPlain {
			p.overflow = true
			return
		}
		p.ids[id] = struct{}{}
	}
}

// take empties the memory; overflow means that there are more rows than ids.
func (p *plainSecrets) take() (ids []string, overflow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.ids {
		ids = append(ids, id)
	}
	ids, overflow = slices.Sorted(slices.Values(ids)), p.overflow
	p.ids, p.overflow = nil, false
	return ids, overflow
}

func (p *plainSecrets) addOverflow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.overflow = true
}

// SealPlaintext seals the plain signing secrets, present and previous, that All and Read came across, and
// returns how many. It costs nothing when there were none. Rows that somebody
// else is changing are left for the next call, and so is everything after an
// error. Without a keyring it does nothing.
func (s *Store) SealPlaintext(ctx context.Context) (int, error) {
	if s.keyring == nil {
		return 0, nil
	}
	ids, overflow := s.plain.take()
	total := 0
	for start := 0; start < len(ids); start += sealRows {
		chunk := ids[start:min(start+sealRows, len(ids))]
		done, skipped, err := s.sealRows(ctx, chunk)
		if err != nil {
			s.plain.add(ids[start:]...)
			if overflow {
				s.plain.addOverflow()
			}
			return total, fmt.Errorf("seal signing secrets: %w", clean(err))
		}
		s.plain.add(skipped...)
		total += done
	}
	if overflow {
		// What was not remembered is found by reading every row once more.
		if err := s.findPlain(ctx); err != nil {
			s.plain.addOverflow()
			return total, err
		}
	}
	return total, nil
}

// sealRows seals the secrets of at most sealRows rows. skipped are those that
// another transaction has locked.
func (s *Store) sealRows(ctx context.Context, ids []string) (done int, skipped []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, table := range secretTables() {
			n, left, err := s.sealTable(ctx, tx, table, ids)
			if err != nil {
				return err
			}
			done, skipped = done+n, append(skipped, left...)
		}
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	return done, skipped, nil
}

// secretTable is where signing secrets stand: in the column signing_secret of the rows
// that key names by the subscription's id.
type secretTable struct{ name, key string }

func secretTables() []secretTable {
	return []secretTable{{"zapier_webhooks", "id"}, {"webhook_previous_secrets", "webhook_id"}}
}

func (s *Store) sealTable(ctx context.Context, tx pgx.Tx, table secretTable, ids []string) (done int, skipped []string, err error) {
	var present []string
	rows, err := tx.Query(ctx, `select `+table.key+` from `+table.name+` where `+table.key+` = any($1) and signing_secret is not null`, ids)
	if err != nil {
		return 0, nil, err
	}
	if present, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(present) == 0 {
		return 0, nil, err
	}
	// A locked row keeps its secret until the update below.
	rows, err = tx.Query(ctx, `
		select `+table.key+`, signing_secret from `+table.name+`
		where `+table.key+` = any($1) and signing_secret is not null order by 1 for no key update skip locked`, ids)
	if err != nil {
		return 0, nil, err
	}
	locked := map[string]bool{}
	var sealedIDs, sealed []string
	var id, stored string
	_, err = pgx.ForEachRow(rows, []any{&id, &stored}, func() error {
		locked[id] = true
		if secret.IsEnvelope(stored) {
			return nil
		}
		envelope, err := s.keyring.Seal(secret.New(stored), secretAAD(id))
		sealedIDs, sealed = append(sealedIDs, id), append(sealed, envelope)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	skipped = slices.DeleteFunc(present, func(id string) bool { return locked[id] })
	if len(sealedIDs) == 0 {
		return 0, skipped, nil
	}
	tag, err := tx.Exec(ctx, `
		update `+table.name+` w set signing_secret = x.sealed
		from unnest($1::text[], $2::text[]) as x (id, sealed) where w.`+table.key+` = x.id`, sealedIDs, sealed)
	return int(tag.RowsAffected()), skipped, err
}

// findPlain remembers plain rows anew, a page at a time, until the memory is full.
func (s *Store) findPlain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
		select id from zapier_webhooks where not starts_with(signing_secret, 'enc:v1:')
		union all
		select webhook_id from webhook_previous_secrets where not starts_with(signing_secret, 'enc:v1:') limit $1`, maxPlain+1)
	if err != nil {
		return fmt.Errorf("look for plain signing secrets: %w", clean(err))
	}
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { s.plain.add(id); return nil }); err != nil {
		return fmt.Errorf("look for plain signing secrets: %w", clean(err))
	}
	return nil
}
