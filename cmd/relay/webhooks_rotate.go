package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay/pgstore"
	"github.com/dot-do/relay/relay/webhook"
)

const (
	algorithmHMAC    = "hmac"
	algorithmEd25519 = "ed25519"
)

// maxOverlap is longer than anybody needs to tell receivers.
const maxOverlap = 366 * 24 * time.Hour

type webhooksRotateCmd struct {
	ID         string        `arg:"" help:"The webhook, a row of zapier_webhooks."`
	Overlap    time.Duration `default:"24h" help:"How long requests carry the signature of the old secret, too. 0 ends it now: for a secret that leaked."`
	Algorithm  string        `default:"hmac" enum:"hmac,ed25519" help:"hmac: a secret that the receiver holds as well. ed25519: a key pair; the receiver gets the public key."`
	Force      bool          `help:"Rotate although the rotation before has not ended: the oldest secret ends now."`
	JSON       bool          `help:"One JSON object; the new secret only with --show-secret."`
	ShowSecret bool          `help:"Put the new secret into the JSON, which programs tend to log."`
}

// rotated is the JSON of the command.
type rotated struct {
	ID            string     `json:"id"`
	Algorithm     string     `json:"algorithm"`
	Secret        string     `json:"secret,omitempty"`
	PublicKey     string     `json:"public_key,omitempty"`
	PreviousUntil *time.Time `json:"previous_until"` // null: nothing stays valid
	Sealed        bool       `json:"sealed"`
}

// Run makes the secret, stores it, and prints once what the receiver needs.
func (c *webhooksRotateCmd) Run(ctx context.Context, a *app) error {
	if c.Overlap < 0 || c.Overlap > maxOverlap {
		return usageError{fmt.Errorf("--overlap %s: want 0 to %s", c.Overlap, maxOverlap)}
	}
	if c.JSON && c.Algorithm == algorithmHMAC && !c.ShowSecret {
		return usageError{errors.New("--json leaves the new secret out, and nobody could read it afterwards: add --show-secret, or leave --json out")}
	}
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return err
	}
	ring, warning, err := loadKeyring(cfg)
	if err != nil {
		return err
	}
	if warning != "" {
		fmt.Fprintf(a.stderr, "relay: %s\n", warning)
	}
	log, _ := newLogger(a.stderr, cfg.Log)
	store, err := pgstore.Open(ctx, pgstore.Config{URL: cfg.Source.URL, Keyring: ring, MaxConns: 2, Logger: log})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	fresh, out := c.draw()
	until, err := store.RotateSecret(ctx, c.ID, pgstore.Rotation{Secret: fresh, Overlap: c.Overlap, Force: c.Force})
	if err != nil {
		return c.explain(err)
	}
	out.Sealed = ring != nil
	if !until.IsZero() {
		until = until.UTC()
		out.PreviousUntil = &until
	}
	return c.print(a, out)
}

// draw makes the secret to store, and tells what to show of it: of a key pair the
// public key.
func (c *webhooksRotateCmd) draw() (secret.String, rotated) {
	out := rotated{ID: c.ID, Algorithm: c.Algorithm}
	if c.Algorithm == algorithmEd25519 {
		private, public := webhook.NewKeyPair()
		out.PublicKey = public
		return private, out
	}
	fresh := webhook.NewSharedSecret()
	out.Secret = fresh.Reveal()
	return fresh, out
}

func (c *webhooksRotateCmd) explain(err error) error {
	var running *pgstore.OverlapError
	switch {
	case errors.Is(err, pgstore.ErrNoWebhook):
		return usageError{err}
	case errors.As(err, &running):
		return fmt.Errorf("%w; rotate after that, or end it now with --force", err)
	}
	return err
}

func (c *webhooksRotateCmd) print(a *app, out rotated) error {
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(out) //nolint:gosec // Run was asked to show it
	}
	what, value := "new secret, shown this once", out.Secret
	if out.PublicKey != "" {
		what, value = "public key for the receiver (the private key stays in the database)", out.PublicKey
	}
	before := "No earlier secret is valid any more."
	if out.PreviousUntil != nil {
		before = "Until " + out.PreviousUntil.Format(time.RFC3339) + " requests carry a signature of the secret before it, too."
	}
	at := ""
	if !out.Sealed {
		at = "It is stored as plain text: set RELAY_MASTER_KEY_FILE to have it sealed.\n"
	}
	_, err := fmt.Fprintf(a.stdout, "Webhook %s, %s:\n\n  %s\n\n%s\n%s", out.ID, what, value, before, at)
	return err
}
