package pgstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/filters"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
)

const (
	pageRows = 1000
	// sharedFilters bounds how many compiled filters one call remembers: most
	// subscriptions share a few.
	sharedFilters = 4096
)

// A created_at in the future was not the database's clock: it says nothing about
// which events came before. A filter that is NULL selects nothing, as in SQL: the text
// null is a filter that cannot be used.
const selectSubscription = `
	select w.id, user_id, coalesce(tenant_id, ''), event_type, coalesce(filters::text, 'null'), target_url, w.signing_secret,
	       p.signing_secret, p.valid_until, status = 'active', max_retries, retry_backoff_seconds, max_triggers_per_hour,
	       case when isfinite(w.created_at) and w.created_at <= clock_timestamp() then w.created_at else 'epoch' end,
	       w.zapier_metadata ->> 'ordering' is not distinct from 'key'
	from zapier_webhooks w left join webhook_previous_secrets p on p.webhook_id = w.id `

// All calls fn for every subscription in the order of their ids, a page at a
// time; the pages are not of one moment. An error of fn ends it.
func (s *Store) All(ctx context.Context, fn func(relay.Subscription) error) error {
	r := newRowReader(s)
	for after, more := "", true; more; {
		page, err := r.read(ctx, selectSubscription+`where w.id > $1 order by w.id limit $2`, after, pageRows)
		if err != nil {
			return err
		}
		for _, sub := range page {
			if err := fn(sub); err != nil {
				return err
			}
			after = sub.ID
		}
		more = len(page) == pageRows
	}
	return nil
}

// Ended returns when no transaction with one of the ids runs any more: then every
// read that begins sees what it wrote. A transaction's lock on its own id is the
// last thing it gives up, after its commit is in the log and seen by others.
func (s *Store) Ended(ctx context.Context, xids []uint32) error {
	ids := make([]string, len(xids))
	for i, xid := range xids {
		ids[i] = strconv.FormatUint(uint64(xid), 10)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, maxEndedPause) {
		running, err := s.anyRuns(ctx, ids)
		if err != nil || !running {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// maxEndedPause is between two looks at a transaction that waits for a standby.
const maxEndedPause = 100 * time.Millisecond

func (s *Store) anyRuns(ctx context.Context, xids []string) (running bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	err = s.pool.QueryRow(ctx, `
		select exists (select from pg_locks
		where locktype = 'transactionid' and mode = 'ExclusiveLock' and granted and transactionid = any($1::text[]::xid[]))`,
		xids).Scan(&running)
	if err != nil {
		return false, fmt.Errorf("look for running transactions: %w", clean(err))
	}
	return running, nil
}

// Read returns the named rows as they are now; deleted ones are missing.
func (s *Store) Read(ctx context.Context, ids []string) ([]relay.Subscription, error) {
	r := newRowReader(s)
	var out []relay.Subscription
	for len(ids) > 0 {
		n := min(len(ids), pageRows)
		page, err := r.read(ctx, selectSubscription+`where w.id = any($1)`, ids[:n])
		if err != nil {
			return nil, err
		}
		out, ids = append(out, page...), ids[n:]
	}
	return out, nil
}

// rowReader turns rows into subscriptions.
type rowReader struct {
	store   *Store
	filters map[string]compiled
	types   map[string]string // one copy of each event type, not one per row
}

type compiled struct {
	filter *filters.Filter
	err    error
}

func newRowReader(s *Store) *rowReader {
	return &rowReader{store: s, filters: map[string]compiled{}, types: map[string]string{}}
}

func (r *rowReader) read(ctx context.Context, sql string, args ...any) ([]relay.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	rows, err := r.store.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read zapier_webhooks: %w", clean(err))
	}
	page, err := pgx.CollectRows(rows, r.subscription)
	if err != nil {
		return nil, fmt.Errorf("read zapier_webhooks: %w", clean(err))
	}
	return page, nil
}

func (r *rowReader) subscription(row pgx.CollectableRow) (relay.Subscription, error) {
	var (
		sub             relay.Subscription
		filter          string
		stored, before  *string
		until           *time.Time
		backoff         int64
		retries, hourly int32
	)
	err := row.Scan(&sub.ID, &sub.Owner.UserID, &sub.Owner.TenantID, &sub.EventType, &filter, &sub.TargetURL, &stored,
		&before, &until, &sub.Active, &retries, &backoff, &hourly, &sub.CreatedAt, &sub.Ordered)
	if err != nil {
		return sub, err
	}
	sub.MaxRetries, sub.MaxPerHour = int(retries), int(hourly)
	sub.Backoff = time.Duration(backoff) * time.Second
	sub.EventType = r.intern(sub.EventType)

	c := r.compile(filter)
	sub.Filter, sub.Broken = c.filter, c.err
	if stored != nil {
		opened, err := r.store.open(sub.ID, *stored)
		if err != nil {
			sub.Broken = errors.Join(sub.Broken, err)
		} else {
			sub.Secrets = []secret.String{opened}
		}
	}
	if before != nil && until != nil {
		if err := r.retire(&sub, *before, *until); err != nil {
			sub.Broken = errors.Join(sub.Broken, err)
		}
	}
	if sub.Broken != nil {
		sub.Filter = nil
	}
	return sub, nil
}

// retire reads the secret before the present one. One whose time is over is not
// opened, so that it cannot break the row; it is sealed all the same.
func (r *rowReader) retire(sub *relay.Subscription, stored string, until time.Time) error {
	if !until.After(time.Now()) {
		if r.store.keyring != nil && !secret.IsEnvelope(stored) {
			r.store.plain.add(sub.ID)
		}
		return nil
	}
	opened, err := r.store.open(sub.ID, stored)
	if err != nil {
		return fmt.Errorf("webhook_previous_secrets: %w", err)
	}
	sub.Retiring = &relay.RetiringSecret{Secret: opened, Until: until}
	return nil
}

func (r *rowReader) intern(s string) string {
	if known, ok := r.types[s]; ok {
		return known
	}
	if len(r.types) < sharedFilters {
		r.types[s] = s
	}
	return s
}

func (r *rowReader) compile(text string) compiled {
	if c, ok := r.filters[text]; ok {
		return c
	}
	f, err := filters.Compile([]byte(text))
	c := compiled{filter: f}
	if err != nil {
		c = compiled{err: relay.NewFilterError(err)}
	}
	if len(r.filters) < sharedFilters {
		r.filters[text] = c
	}
	return c
}

// open returns a stored signing secret. A plain one is remembered for
// SealPlaintext.
func (s *Store) open(id, stored string) (secret.String, error) {
	if !secret.IsEnvelope(stored) {
		if s.keyring != nil {
			s.plain.add(id)
		}
		return secret.New(stored), nil
	}
	if s.keyring == nil {
		return secret.String{}, errors.New("signing secret is sealed and there is no master key file")
	}
	opened, err := s.keyring.Open(stored, secretAAD(id))
	if err != nil {
		return secret.String{}, fmt.Errorf("signing secret: %w", err)
	}
	return opened, nil
}

// secretAAD is the same for a secret and for the one before it: a rotation copies the
// envelope from one column to the other, also where the key is not known.
func secretAAD(id string) string { return secret.AAD("zapier_webhooks", "signing_secret", id) }
