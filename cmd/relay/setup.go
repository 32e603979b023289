package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/natsstream"
	"github.com/dot-do/relay/relay/pgsource"
	"github.com/dot-do/relay/relay/pgstore"
)

type setupCmd struct {
	Print bool `help:"Print the SQL for a DBA and change nothing."`
}

// Run creates what is missing, or prints the SQL for it.
func (c *setupCmd) Run(ctx context.Context, a *app) error {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return err
	}
	log, _ := newLogger(a.stderr, cfg.Log)
	store, err := pgstore.Open(ctx, pgstore.Config{URL: cfg.Source.URL, Logger: log})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	catalog, err := store.Current(ctx, "")
	if err != nil {
		return err
	}
	checkpoint, err := store.Load(ctx, cfg.Source.Slot)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	p := &process{cfg: cfg, log: log}
	source := p.sourceConfig(catalog, checkpoint) // a slot that is gone is not replaced without a word

	var steps pgsource.Steps
	if c.Print {
		steps, err = pgsource.Plan(ctx, source)
	} else {
		steps, err = pgsource.Setup(ctx, source)
	}
	if err != nil {
		return err
	}
	for _, sql := range steps.SQL {
		fmt.Fprintln(a.stdout, sql+";")
	}
	for _, d := range steps.Dormant {
		fmt.Fprintf(a.stdout, "-- %s %s: its mappings are dormant\n", d.Table, d.Reason)
	}
	if len(steps.SQL) == 0 {
		fmt.Fprintln(a.stdout, "-- Postgres needs nothing more")
	}
	if c.Print {
		return nil
	}
	return setupStream(ctx, a, cfg)
}

// setupStream makes the stream on an external server; the embedded one makes it
// when the relay runs.
func setupStream(ctx context.Context, a *app, cfg config.Config) error {
	if cfg.NATS.Embedded() {
		fmt.Fprintln(a.stdout, "-- NATS runs inside the relay: the stream is made by relay run")
		return nil
	}
	client, err := connectNATS(ctx, cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.EnsureStream(ctx); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "-- stream %s is there\n", cfg.NATS.Stream)
	return nil
}

func connectNATS(ctx context.Context, cfg config.Config) (*natsstream.Client, error) {
	return natsstream.Connect(ctx, natsstream.Config{URL: cfg.NATS.URL, Stream: cfg.NATS.Stream, Source: cfg.Source.Slot})
}

// loadKeyring is for commands that look at secrets; a problem with the file is a
// problem of the configuration.
func loadKeyring(cfg config.Config) (*secret.Keyring, string, error) {
	if cfg.MasterKeyFile == "" {
		return nil, "", nil
	}
	ring, warning, err := secret.Load(cfg.MasterKeyFile)
	if err != nil {
		return nil, "", &config.Error{Problems: []string{fmt.Sprintf("master_key_file (RELAY_MASTER_KEY_FILE): %v", err)}}
	}
	return ring, warning, nil
}

// remedyOf splits an error into what was found and what to do.
func remedyOf(err error) (finding, remedy string) {
	var (
		setup *relay.SetupError
		halt  *relay.HaltError
	)
	switch {
	case errors.As(err, &setup):
		return setup.Err.Error(), setup.Remedy
	case errors.As(err, &halt):
		return halt.Err.Error(), halt.Remedy
	}
	return err.Error(), ""
}
