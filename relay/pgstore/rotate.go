package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/internal/secret"
)

// ErrNoWebhook is returned for an id that zapier_webhooks does not have.
var ErrNoWebhook = errors.New("zapier_webhooks has no such row")

// OverlapError is returned by RotateSecret while the rotation before has not ended:
// there is room for one previous secret, and receivers may still need it.
type OverlapError struct{ Until time.Time }

// Error tells until when.
func (e *OverlapError) Error() string {
	return "the secret before the present one is valid until " + e.Until.UTC().Format(time.RFC3339)
}

// Rotation is how a secret is replaced.
type Rotation struct {
	Secret  secret.String // the new one
	Overlap time.Duration // how long the present one stays valid; 0: it ends now
	Force   bool          // also when that cuts the overlap of the rotation before short
}

// RotateSecret gives the subscription a new signing secret, sealed when there is a
// keyring, and lets the present one stay valid for the overlap by the database's
// clock. It returns until when that is, zero when nothing stays valid. It is one
// transaction: requests are signed with the old secret, or with both.
func (s *Store) RotateSecret(ctx context.Context, id string, r Rotation) (until time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	stored := r.Secret.Reveal()
	if s.keyring != nil {
		if stored, err = s.keyring.Seal(r.Secret, secretAAD(id)); err != nil {
			return until, fmt.Errorf("seal the new secret: %w", err)
		}
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var running *time.Time
		// The row is locked before the other one is looked at: rotations follow each other.
		var present *string
		err := tx.QueryRow(ctx, `select signing_secret from zapier_webhooks where id = $1 for no key update`, id).Scan(&present)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNoWebhook
		}
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `select (select valid_until from webhook_previous_secrets where webhook_id = $1 and valid_until > now())`, id).Scan(&running)
		if err != nil {
			return err
		}
		if running != nil && present != nil && r.Overlap > 0 && !r.Force {
			return &OverlapError{Until: *running}
		}
		if _, err := tx.Exec(ctx, `delete from webhook_previous_secrets where webhook_id = $1`, id); err != nil {
			return err
		}
		if present != nil && r.Overlap > 0 {
			err := tx.QueryRow(ctx, `
				insert into webhook_previous_secrets (webhook_id, signing_secret, valid_until)
				values ($1, $2, now() + $3::bigint * interval '1 microsecond') returning valid_until`,
				id, *present, r.Overlap.Microseconds()).Scan(&until)
			if err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `update zapier_webhooks set signing_secret = $2 where id = $1`, id, stored)
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("rotate the secret of webhook %q: %w", id, clean(err))
	}
	return until, nil
}
