package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/secret"
)

const (
	dsn    = "postgres://relay:canary-pw@db:5432/app"
	dsnEnv = "RELAY_DATABASE_URL=" + dsn
)

// load reads a file of that content, written as relay.yaml in the working
// directory of the test.
func load(t *testing.T, content string, environ ...string) (config.Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("relay.yaml", []byte(content), 0o600))
	return config.Load("relay.yaml", environ)
}

// problems returns what Load finds wrong.
func problems(t *testing.T, err error) []string {
	t.Helper()
	var bad *config.Error
	require.ErrorAs(t, err, &bad)
	require.NotContains(t, err.Error(), "canary")
	return bad.Problems
}

func TestLoadNeedsNothingButTheDatabase(t *testing.T) {
	cfg, err := config.Load("", []string{dsnEnv, "PATH=/bin", "malformed"})
	require.NoError(t, err)
	want := config.Default()
	want.Source.URL = secret.New(dsn)
	require.Equal(t, want, cfg)
	require.True(t, cfg.NATS.Embedded())

	_, err = config.Load("", nil)
	require.Equal(t, []string{
		"source.url (RELAY_DATABASE_URL) is not set; set it to postgres://user:password@host:5432/database",
	}, problems(t, err))
}

// The contract of the names and defaults that users rely on.
func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	cfg := config.Default()
	require.Equal(t, "relay", cfg.Source.Slot)
	require.Equal(t, "relay", cfg.Source.Publication)
	require.Equal(t, "./data/nats", cfg.NATS.Dir)
	require.Equal(t, "127.0.0.1:4222", cfg.NATS.Listen)
	require.Equal(t, "EVENTS", cfg.NATS.Stream)
	require.Equal(t, 5*time.Minute, cfg.NATS.ConfirmLag)
	require.Equal(t, time.Hour, cfg.NATS.AuditEvery)
	require.Equal(t, "auto", cfg.NATS.Batches)
	require.Equal(t, 10*time.Second, cfg.Source.Heartbeat)
	require.Equal(t, "10GB", cfg.Source.WALBudget.String())
	require.Equal(t, "warn", cfg.Source.WALPolicy)
	require.Equal(t, "127.0.0.1:8080", cfg.Listen)
	require.Equal(t, 15*time.Second, cfg.Webhook.HTTPTimeout)
	require.Equal(t, 20*time.Second, cfg.DrainTimeout)
	require.Equal(t, slog.LevelInfo, cfg.Log.Level)
	require.Equal(t, config.FormatAuto, cfg.Log.Format)
}

const everyKey = `
source: {url: "postgres://file", slot: file_slot, publication: file_pub, heartbeat: 1s, wal_budget: 64MB, wal_policy: halt}
nats: {url: "nats://file:4222", dir: /file/nats, listen: "127.0.0.1:1", stream: FILE, confirm_lag: 1m, audit_every: 2h, monitor_url: "http://file:8222", batches: atomic, message_ids: false}
webhook: {http_timeout: 1s, retry_schedule: [1s, 2m], egress_allow: [10.0.0.0/8, "::1/128"], egress_http: true, disable_after: 1h, log_skipped: false, log_redact: [email, data.ssn], log_payload_max: 1kB, log_retention: 48h}
listen: 127.0.0.1:2
port_file: /file/ports
master_key_file: /file/keys
drain_timeout: 3s
log: {level: debug, format: text}
`

var everyVariable = []string{
	"RELAY_DATABASE_URL=postgres://env", "RELAY_SLOT=env_slot", "RELAY_PUBLICATION=env_pub",
	"RELAY_HEARTBEAT=0s", "RELAY_WAL_BUDGET=2TB", "RELAY_WAL_POLICY=drop-slot",
	"RELAY_NATS_URL=nats://a:4222, tls://b:4222", "RELAY_NATS_DIR=/env/nats", "RELAY_NATS_LISTEN=-", "RELAY_STREAM=ENV",
	"RELAY_CONFIRM_LAG=0s", "RELAY_AUDIT_EVERY=0s", "RELAY_NATS_MONITOR_URL=http://a:8222,https://b", "RELAY_NATS_BATCHES=off", "RELAY_NATS_MESSAGE_IDS=true",
	"RELAY_HTTP_TIMEOUT=250ms", "RELAY_RETRY_SCHEDULE=1s, 2s,5s,", "RELAY_EGRESS_ALLOW=127.0.0.0/8,fd00::/8", "RELAY_EGRESS_HTTP=false", "RELAY_LOG_RETENTION=0s", "RELAY_DISABLE_AFTER=0s", "RELAY_LOG_SKIPPED=true", "RELAY_LOG_REDACT=password", "RELAY_LOG_PAYLOAD_MAX=0",
	"RELAY_LISTEN=:0", "RELAY_PORT_FILE=/env/ports", "RELAY_MASTER_KEY_FILE=/env/keys", "RELAY_DRAIN_TIMEOUT=0s",
	"RELAY_LOG_LEVEL=WARN", "RELAY_LOG_FORMAT=json",
}

func TestTheFileOverridesEveryDefault(t *testing.T) {
	cfg, err := load(t, everyKey)
	require.NoError(t, err)
	require.Equal(t, config.Config{
		Source: config.Source{URL: secret.New("postgres://file"), Slot: "file_slot", Publication: "file_pub", Heartbeat: time.Second, WALBudget: 64 << 20, WALPolicy: config.PolicyHalt},
		NATS:   config.NATS{URL: secret.New("nats://file:4222"), Dir: "/file/nats", Listen: "127.0.0.1:1", Stream: "FILE", ConfirmLag: time.Minute, AuditEvery: 2 * time.Hour, MonitorURL: secret.New("http://file:8222"), Batches: config.BatchesAtomic},
		Webhook: config.Webhook{
			HTTPTimeout: time.Second, RetrySchedule: []time.Duration{time.Second, 2 * time.Minute},
			EgressAllow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, EgressHTTP: true, DisableAfter: time.Hour, LogRedact: []string{"email", "data.ssn"}, LogPayloadMax: 1024, LogRetention: 48 * time.Hour,
		},
		Listen: "127.0.0.1:2", PortFile: "/file/ports", MasterKeyFile: "/file/keys", DrainTimeout: 3 * time.Second,
		Log: config.Log{Level: slog.LevelDebug, Format: config.FormatText},
	}, cfg)
}

func TestTheEnvironmentOverridesEveryKeyOfTheFile(t *testing.T) {
	cfg, err := load(t, everyKey, everyVariable...)
	require.NoError(t, err)
	require.Equal(t, config.Config{
		Source: config.Source{URL: secret.New("postgres://env"), Slot: "env_slot", Publication: "env_pub", WALBudget: 2 << 40, WALPolicy: config.PolicyDropSlot},
		NATS:   config.NATS{URL: secret.New("nats://a:4222, tls://b:4222"), Dir: "/env/nats", Listen: "-", Stream: "ENV", MonitorURL: secret.New("http://a:8222,https://b"), Batches: config.BatchesOff, MessageIDs: true},
		Webhook: config.Webhook{
			HTTPTimeout: 250 * time.Millisecond, RetrySchedule: []time.Duration{time.Second, 2 * time.Second, 5 * time.Second},
			EgressAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, LogSkipped: true, LogRedact: []string{"password"},
		},
		Listen: ":0", PortFile: "/env/ports", MasterKeyFile: "/env/keys",
		Log: config.Log{Level: slog.LevelWarn, Format: config.FormatJSON},
	}, cfg)
}

// Compose files pass variables on empty when their user set none.
func TestAnEmptyVariableOrKeyIsUnset(t *testing.T) {
	environ := []string{dsnEnv}
	for _, variable := range everyVariable[1:] {
		name, _, _ := strings.Cut(variable, "=")
		environ = append(environ, name+"=")
	}
	cfg, err := load(t, "source:\nnats:\n  url:\n  dir: ~\nlisten: null\n", environ...)
	require.NoError(t, err)
	want := config.Default()
	want.Source.URL = secret.New(dsn)
	require.Equal(t, want, cfg)
}

func TestLoadNeverReadsTheProcessEnvironment(t *testing.T) {
	t.Setenv("RELAY_SLOT", "from_process")
	cfg, err := config.Load("", []string{dsnEnv})
	require.NoError(t, err)
	require.Equal(t, "relay", cfg.Source.Slot)
}

func TestFileMistakesAreReportedWithLineAndRemedy(t *testing.T) {
	cases := map[string]struct{ file, want string }{
		"unknown key":          {"source:\n  slott: orders", "relay.yaml: line 2: unknown key slott in source; did you mean slot?"},
		"unknown section":      {"webhooks:\n  egress_http: true", "relay.yaml: line 1: unknown key webhooks; did you mean webhook?"},
		"key of a section":     {"slot: orders", "relay.yaml: line 1: unknown key slot; did you mean source.slot?"},
		"key of the top level": {"nats:\n  port_file: x", "relay.yaml: line 2: unknown key port_file in nats; did you mean port_file?"},
		"resembles nothing":    {"entirely_else: 1", "relay.yaml: line 1: unknown key entirely_else"},
		"dotted key":           {"source.slot: orders", "relay.yaml: line 1: unknown key source.slot"},
		"key of a setting":     {"listen:\n  port: 1", "relay.yaml: line 2: listen: want text"},
		"key twice":            {"log:\n  level: info\n  level: warn", "relay.yaml: line 3: key level in log stands there twice; keep one"},
		"text for a section":   {"source: orders", "relay.yaml: line 1: want keys and values in source"},
		"list at the top":      {"- source", "relay.yaml: line 1: want keys and values"},
		"list as a key":        {"[a, b]: c", "relay.yaml: line 1: want a plain key"},
		"second document":      {"listen: :1\n---\nlisten: :2", "relay.yaml: holds a second document; keep one"},
		"no yaml":              {"source:\n\tslot: orders", "relay.yaml: line 2: found character that cannot start any token"},
		"undefined anchor":     {"source:\n  url: *canary", "relay.yaml: refers to an anchor that is not defined; quote a value that starts with *"},
		"no unit":              {"webhook:\n  http_timeout: 15", `relay.yaml: line 2: webhook.http_timeout: "15": want a duration with its unit, such as 15s or 2m`},
		"no unit in a list":    {"webhook:\n  retry_schedule: [1s, 2]", "relay.yaml: line 2: webhook.retry_schedule: want a list of durations with their units, such as 1s, 10s, 2m"},
		"no list":              {"webhook:\n  retry_schedule: soon", `relay.yaml: line 2: webhook.retry_schedule: "soon": want a list of durations with their units, such as 1s, 10s, 2m`},
		"no network":           {"webhook:\n  egress_allow: [10.0.0.1]", "relay.yaml: line 2: webhook.egress_allow: want a list of networks with their prefix length, such as 10.0.0.0/8, 127.0.0.1/32"},
		"no bool":              {"webhook:\n  egress_http: maybe", `relay.yaml: line 2: webhook.egress_http: "maybe": want true or false`},
		"no level":             {"log:\n  level: loud", `relay.yaml: line 2: log.level: "loud": want debug, info, warn or error`},
		"secret of wrong kind": {"source:\n  url: [canary]", "relay.yaml: line 2: source.url: want text"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, c.file, dsnEnv)
			found := problems(t, err)
			require.Len(t, found, 1, found)
			require.Equal(t, c.want, found[0])
		})
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	_, err := load(t, "source:\n  slott: a\n  slot: Orders\nlog: {format: xml}\nwebhook: {http_timeout: 15}",
		"RELAY_DRAIN_TIMEOUT=20", "RELAY_SLOTS=b", "RELAY_STREAM=a.b")
	require.Equal(t, []string{
		"relay.yaml: line 2: unknown key slott in source; did you mean slot?",
		`relay.yaml: line 5: webhook.http_timeout: "15": want a duration with its unit, such as 15s or 2m`,
		"unknown environment variable RELAY_SLOTS; did you mean RELAY_SLOT?",
		`RELAY_DRAIN_TIMEOUT: "20": want a duration with its unit, such as 15s or 2m`,
		"source.url (RELAY_DATABASE_URL) is not set; set it to postgres://user:password@host:5432/database",
		`source.slot (RELAY_SLOT) is "Orders"; want 1 to 63 of a-z 0-9 _, the only names Postgres accepts for a slot`,
		`nats.stream (RELAY_STREAM) is "a.b"; want 1 to 255 characters without space . * > / or \`,
		`log.format (RELAY_LOG_FORMAT) is "xml"; want auto, json or text`,
	}, problems(t, err))
	require.True(t, strings.HasPrefix(err.Error(), "configuration: 8 problems:\n  relay.yaml: line 2: "), err.Error())
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := config.Load("missing.yaml", []string{dsnEnv})
	require.Equal(t, []string{"missing.yaml: open: no such file or directory"}, problems(t, err))

	require.NoError(t, os.WriteFile("big.yaml", []byte("# "+strings.Repeat("x", 2<<20)), 0o600))
	_, err = config.Load("big.yaml", []string{dsnEnv})
	require.Equal(t, []string{"big.yaml: larger than 1048576 bytes"}, problems(t, err))
}

func TestAnEmptyFileOverridesNothing(t *testing.T) {
	for _, content := range []string{"", "# only a comment\n", "---\n", "{}"} {
		_, err := load(t, content, dsnEnv)
		require.NoError(t, err, content)
	}
}

func TestAliasesWorkAndBombsDoNot(t *testing.T) {
	cfg, err := load(t, "source: {slot: &name orders, publication: *name}", dsnEnv)
	require.NoError(t, err)
	require.Equal(t, "orders", cfg.Source.Publication)

	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'j'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s*%c]\n", c, c, strings.Repeat(fmt.Sprintf("*%c, ", c-1), 8), c-1)
	}
	_, err = load(t, bomb+"listen: *i\n", dsnEnv)
	require.Contains(t, problems(t, err), "relay.yaml: line 9: listen: want text")
}

func TestMisspeltVariablesAreRefusedButNotServiceLinks(t *testing.T) {
	for _, variable := range []string{
		"RELAY_PG_BIN=/usr/bin", "RELAY_TEST_ANYTHING=1",
		"RELAY_SERVICE_HOST=10.0.0.1", "RELAY_SERVICE_PORT=80", "RELAY_SERVICE_PORT_HTTP=80", "RELAY_PORT=tcp://10.0.0.1:80",
		"RELAY_PORT_80_TCP=tcp://10.0.0.1:80", "RELAY_PORT_80_TCP_ADDR=10.0.0.1", "RELAY_METRICS_SERVICE_HOST=10.0.0.1",
		"RELAY_METRICS_PORT=tcp://10.0.0.1:80", "RELAYED=1", "relay_slot=1",
	} {
		_, err := config.Load("", []string{dsnEnv, variable})
		require.NoError(t, err, variable)
	}
	for variable, hint := range map[string]string{
		"RELAY_DATABSE_URL=" + dsn: "RELAY_DATABSE_URL; did you mean RELAY_DATABASE_URL?",
		"RELAY_PORTFILE=x":         "RELAY_PORTFILE; did you mean RELAY_PORT_FILE?",
		"RELAY_SLOTS=x":            "RELAY_SLOTS; did you mean RELAY_SLOT?",
	} {
		_, err := config.Load("", []string{dsnEnv, variable})
		found := problems(t, err)
		require.Len(t, found, 1)
		require.Contains(t, found[0], "unknown environment variable "+hint)
	}
}

func TestVariablesThatResembleNoSettingAreListedOnly(t *testing.T) {
	cfg, err := config.Load("", []string{dsnEnv, "RELAY_BIN=/opt/relay", "RELAY_IMAGE=relay:1", "RELAY_PORT=8080", "RELAY_=x", "RELAY_TEST_X=1"})
	require.NoError(t, err)
	require.Equal(t, []string{"RELAY_BIN", "RELAY_IMAGE", "RELAY_PORT", "RELAY_"}, cfg.Unread)
}

func TestVariableMistakesNameTheVariable(t *testing.T) {
	for variable, want := range map[string]string{
		"RELAY_HTTP_TIMEOUT=15":        `RELAY_HTTP_TIMEOUT: "15": want a duration`,
		"RELAY_RETRY_SCHEDULE=1s,x":    `RELAY_RETRY_SCHEDULE: "1s,x": want a list of durations`,
		"RELAY_EGRESS_ALLOW=127.0.0.1": `RELAY_EGRESS_ALLOW: "127.0.0.1": want a list of networks`,
		"RELAY_WAL_BUDGET=10":          `RELAY_WAL_BUDGET: "10": want an amount of data with its unit, such as 512MB or 10GB`,
		"RELAY_WAL_BUDGET=-1GB":        `RELAY_WAL_BUDGET: "-1GB": want an amount of data`,
		"RELAY_WAL_BUDGET=9999999TB":   `RELAY_WAL_BUDGET: "9999999TB": want an amount of data`,
		"RELAY_EGRESS_HTTP=sure":       `RELAY_EGRESS_HTTP: "sure": want true or false`,
		"RELAY_LOG_LEVEL=\x1bloud":     `RELAY_LOG_LEVEL: "\x1bloud": want debug, info, warn or error`,
	} {
		_, err := config.Load("", []string{dsnEnv, variable})
		found := problems(t, err)
		require.Len(t, found, 1)
		require.Contains(t, found[0], want)
	}
}

func TestValidateNamesKeyAndVariable(t *testing.T) {
	cases := map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"no dsn":              {func(c *config.Config) { c.Source.URL = secret.New("canary") }, "source.url (RELAY_DATABASE_URL) is no connection string"},
		"other database":      {func(c *config.Config) { c.Source.URL = secret.New("mysql://canary?a=b") }, "source.url (RELAY_DATABASE_URL) is no connection string"},
		"slot with dash":      {func(c *config.Config) { c.Source.Slot = "a-b" }, `source.slot (RELAY_SLOT) is "a-b"`},
		"slot too long":       {func(c *config.Config) { c.Source.Slot = strings.Repeat("s", 64) }, "source.slot (RELAY_SLOT) is"},
		"slot with newline":   {func(c *config.Config) { c.Source.Slot = "a\n" }, `source.slot (RELAY_SLOT) is "a\n"`},
		"no publication":      {func(c *config.Config) { c.Source.Publication = "" }, "source.publication (RELAY_PUBLICATION) is"},
		"publication with 0":  {func(c *config.Config) { c.Source.Publication = "a\x00" }, "source.publication (RELAY_PUBLICATION) is"},
		"nats without scheme": {func(c *config.Config) { c.NATS.URL = secret.New("canary:4222") }, "nats.url (RELAY_NATS_URL) is no list of NATS servers"},
		"nats over http":      {func(c *config.Config) { c.NATS.URL = secret.New("nats://a,http://canary@b") }, "nats.url (RELAY_NATS_URL) is no list of NATS servers"},
		"no nats dir":         {func(c *config.Config) { c.NATS.Dir = "" }, "nats.dir (RELAY_NATS_DIR) is empty"},
		"nats listen":         {func(c *config.Config) { c.NATS.Listen = "4222" }, `nats.listen (RELAY_NATS_LISTEN) is "4222"`},
		"stream with space":   {func(c *config.Config) { c.NATS.Stream = "a b" }, `nats.stream (RELAY_STREAM) is "a b"`},
		"stream is a path":    {func(c *config.Config) { c.NATS.Stream = "a/b" }, `nats.stream (RELAY_STREAM) is "a/b"`},
		"frequent heartbeat":  {func(c *config.Config) { c.Source.Heartbeat = time.Millisecond }, "source.heartbeat (RELAY_HEARTBEAT) is 1ms; want 1s to 1h0m0s"},
		"tiny budget":         {func(c *config.Config) { c.Source.WALBudget = 32 << 20 }, "source.wal_budget (RELAY_WAL_BUDGET) is 32MB; want 0 for none, or 64MB and more"},
		"unknown policy":      {func(c *config.Config) { c.Source.WALPolicy = "drop" }, `source.wal_policy (RELAY_WAL_POLICY) is "drop"; want warn, halt or drop-slot`},
		"long lag":            {func(c *config.Config) { c.NATS.ConfirmLag = 25 * time.Hour }, "nats.confirm_lag (RELAY_CONFIRM_LAG) is 25h0m0s"},
		"unknown batches":     {func(c *config.Config) { c.NATS.Batches = "slow" }, `nats.batches (RELAY_NATS_BATCHES) is "slow"; want auto, fast, atomic or off`},
		"monitor over nats":   {func(c *config.Config) { c.NATS.MonitorURL = secret.New("nats://canary:4222") }, "nats.monitor_url (RELAY_NATS_MONITOR_URL) is no list of monitoring addresses"},
		"disabled at once":    {func(c *config.Config) { c.Webhook.DisableAfter = time.Millisecond }, "webhook.disable_after (RELAY_DISABLE_AFTER) is 1ms; want 1s to "},
		"tiny log payload":    {func(c *config.Config) { c.Webhook.LogPayloadMax = 12 }, "webhook.log_payload_max (RELAY_LOG_PAYLOAD_MAX) is 12; want 0 for none, or 1kB and more"},
		"nothing redacted":    {func(c *config.Config) { c.Webhook.LogRedact = []string{"data..ssn"} }, `webhook.log_redact (RELAY_LOG_REDACT) holds "data..ssn"; want the name of a member, or names separated by dots`},
		"log kept minutes":    {func(c *config.Config) { c.Webhook.LogRetention = time.Minute }, "webhook.log_retention (RELAY_LOG_RETENTION) is 1m0s; want 1h0m0s to "},
		"no timeout":          {func(c *config.Config) { c.Webhook.HTTPTimeout = 0 }, "webhook.http_timeout (RELAY_HTTP_TIMEOUT) is 0s; want 1ms to 10m0s"},
		"retry at once":       {func(c *config.Config) { c.Webhook.RetrySchedule = make([]time.Duration, 3) }, "webhook.retry_schedule (RELAY_RETRY_SCHEDULE) is 0s"},
		"mapped network":      {func(c *config.Config) { c.Webhook.EgressAllow = prefixes("::ffff:10.0.0.0/104") }, "webhook.egress_allow (RELAY_EGRESS_ALLOW) holds ::ffff:10.0.0.0/104"},
		"listen without port": {func(c *config.Config) { c.Listen = "localhost" }, `listen (RELAY_LISTEN) is "localhost"`},
		"port too high":       {func(c *config.Config) { c.Listen = ":65536" }, `listen (RELAY_LISTEN) is ":65536"`},
		"one port for two":    {func(c *config.Config) { c.Listen = c.NATS.Listen }, "nats.listen (RELAY_NATS_LISTEN) is the address of listen"},
		"negative drain":      {func(c *config.Config) { c.DrainTimeout = -1 }, "drain_timeout (RELAY_DRAIN_TIMEOUT) is -1ns"},
		"format":              {func(c *config.Config) { c.Log.Format = "" }, "log.format (RELAY_LOG_FORMAT) is"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Source.URL = secret.New("host=/run/postgresql dbname=app")
			require.NoError(t, cfg.Validate())
			c.change(&cfg)
			found := problems(t, cfg.Validate())
			require.Len(t, found, 1, found)
			require.Contains(t, found[0], c.want)
		})
	}
}

// The embedded server's settings mean nothing once another server is named.
func TestEmbeddedSettingsAreIgnoredWithAnotherServer(t *testing.T) {
	_, err := config.Load("", []string{dsnEnv, "RELAY_NATS_URL=nats://canary:canary@nats:4222", "RELAY_NATS_LISTEN=nonsense"})
	require.NoError(t, err)
}

func TestAConfigPrintsWithoutItsPasswords(t *testing.T) {
	cfg, err := config.Load("", []string{dsnEnv, "RELAY_NATS_URL=nats://u:canary-pw@nats:4222"})
	require.NoError(t, err)
	asJSON, err := json.Marshal(cfg)
	require.NoError(t, err)
	asYAML, err := yaml.Marshal(cfg)
	require.NoError(t, err)
	for _, dump := range []string{fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), string(asJSON), string(asYAML)} {
		require.Contains(t, dump, "***")
		require.NotContains(t, dump, "canary")
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func FuzzLoadReportsWhateverItIsGiven(f *testing.F) {
	f.Add([]byte(everyKey))
	f.Add([]byte("source: {url: *a, slot: &a x}\nlog: [*a]\n---\n"))
	path := filepath.Join(f.TempDir(), "relay.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		cfg, err := config.Load(path, []string{dsnEnv})
		if err == nil {
			require.NoError(t, cfg.Validate())
			return
		}
		var bad *config.Error
		require.ErrorAs(t, err, &bad)
		require.NotEmpty(t, bad.Problems)
		require.NotContains(t, strings.Join(bad.Problems, ""), "\x1b")
	})
}
