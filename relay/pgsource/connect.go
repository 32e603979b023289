package pgsource

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
)

const (
	connectTimeout = 10 * time.Second // unless the URL says connect_timeout
	lockTimeout    = "10s"            // unless the URL says lock_timeout: our waiting holds up everybody behind us
)

// connectSQL opens an ordinary connection.
func connectSQL(ctx context.Context, url secret.String) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return nil, badURL(err)
	}
	adjust(&cfg.Config)
	cfg.RuntimeParams["application_name"] = "relay"
	if cfg.RuntimeParams["lock_timeout"] == "" {
		cfg.RuntimeParams["lock_timeout"] = lockTimeout
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(err, &cfg.Config)
	}
	return conn, nil
}

// connectReplication opens a walsender connection to the database. Its settings
// fix the text form of values, whatever the role or the database prefer.
func connectReplication(ctx context.Context, url secret.String, slot string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(url.Reveal())
	if err != nil {
		return nil, badURL(err)
	}
	adjust(cfg)
	maps.Copy(cfg.RuntimeParams, map[string]string{
		"replication":        "database",
		"application_name":   "relay " + slot,
		"client_encoding":    "UTF8",
		"DateStyle":          "ISO",
		"IntervalStyle":      "postgres",
		"TimeZone":           "UTC",
		"extra_float_digits": "3",
		"bytea_output":       "hex",
		// An exported snapshot is an open transaction, for as long as it is read.
		"idle_in_transaction_session_timeout": "0",
		"statement_timeout":                   "0",
		// So that the names in values, as of regclass, come with their schema.
		"search_path": "",
	})
	// Creating a slot waits for transactions. Without a cancel request the server
	// would go on waiting, and hold the name, after we went away.
	cfg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 2 * time.Second}
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(err, cfg)
	}
	if conn.ParameterStatus("server_encoding") != noEncoding {
		return conn, nil
	}
	// Such a database holds bytes that are not UTF-8. Asked for UTF-8, the server would
	// fail at the first of them, again and again; so it sends them as they are.
	if _, err := conn.Exec(ctx, "SET client_encoding = "+noEncoding).ReadAll(); err != nil {
		_ = conn.Close(ctx)
		return nil, connectError(err, cfg)
	}
	return conn, nil
}

const noEncoding = "SQL_ASCII"

// adjust puts our own connect timeout in the place of the driver's long default.
func adjust(cfg *pgconn.Config) {
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout >= 2*time.Minute {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.RuntimeParams == nil {
		cfg.RuntimeParams = map[string]string{}
	}
}

// badURL says nothing of what was found: the parser quotes the URL, which may
// hold a password in a place where nobody looks for one.
func badURL(error) error {
	return setupError("the database URL cannot be read",
		"write it as postgres://user:password@host:5432/database?sslmode=…, special characters in the password percent-encoded")
}

// connectError says in one line why there is no connection and what helps.
// Refused, timed out and starting servers are ordinary errors: they may pass.
func connectError(err error, cfg *pgconn.Config) error {
	at := "connect to Postgres at " + address(cfg)
	var (
		pg     *pgconn.PgError
		dns    *net.DNSError
		op     *net.OpError
		verify *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &pg):
		return refusedByServer(at, pg, cfg)
	case errors.As(err, &verify):
		return &relay.SetupError{
			Err:    fmt.Errorf("%s: %w", at, verify),
			Remedy: "give the authority's certificate as sslrootcert in the database URL, or check the host name",
		}
	case errors.As(err, &dns):
		return fmt.Errorf("%s: %w; check the host name in RELAY_DATABASE_URL", at, dns)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", at, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w; check that the server is reachable from here", at, context.DeadlineExceeded)
	case errors.As(err, &op):
		return fmt.Errorf("%s: %w; check that the server is running and listens there", at, op)
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = connect.Unwrap() // its own text repeats the URL's parts
	}
	return fmt.Errorf("%s: %w", at, err)
}

func refusedByServer(at string, pg *pgconn.PgError, cfg *pgconn.Config) error {
	err := fmt.Errorf("%s: %w", at, pg)
	switch pg.Code {
	case codeInvalidPassword, codeInvalidAuthorization:
		return &relay.SetupError{Err: err, Remedy: "check user and password in RELAY_DATABASE_URL and the server's pg_hba.conf"}
	case codeInvalidCatalogName:
		return &relay.SetupError{Err: err, Remedy: "name an existing database in RELAY_DATABASE_URL, or run: CREATE DATABASE " + quote(cfg.Database) + ";"}
	case codeInsufficientPrivilege:
		return &relay.SetupError{Err: err, Remedy: "let a superuser run: " + replicationSQL(cfg.User) + ";"}
	case codeTooManyConnections:
		return fmt.Errorf("%w; raise max_wal_senders or max_connections, or end idle connections", err)
	}
	return err
}

func address(cfg *pgconn.Config) string {
	if strings.HasPrefix(cfg.Host, "/") {
		return cfg.Host
	}
	return net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
}

func replicationSQL(role string) string { return "ALTER ROLE " + quote(role) + " REPLICATION" }
