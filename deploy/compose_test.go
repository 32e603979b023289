// Package deploy_test checks the files that start a stack: docker-compose.yml and
// what it mounts.
package deploy_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/pgtest"
)

// service is the part of a compose service that the tests look at.
type service struct {
	Image       string
	Restart     string
	Command     []string
	Environment map[string]string
	Ports       []string
	Volumes     []string
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	ReadOnly    bool     `yaml:"read_only"`
	User        string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct{ Test []string }
}

func (s service) isLongRunning() bool { return s.Restart != "no" }

func services(t *testing.T) map[string]service {
	t.Helper()
	content, err := os.ReadFile("../docker-compose.yml")
	require.NoError(t, err)
	var file struct{ Services map[string]service }
	require.NoError(t, yaml.Unmarshal(content, &file))
	require.Contains(t, file.Services, "relay")
	return file.Services
}

func TestComposeUsesOnlyVariablesThatExist(t *testing.T) {
	known := variables(reflect.TypeFor[config.Config]())
	for name, s := range services(t) {
		for variable := range s.Environment {
			if strings.HasPrefix(variable, "RELAY_") {
				require.Contains(t, known, variable, name)
			}
		}
	}
}

func TestTheComposeEnvironmentIsAValidConfiguration(t *testing.T) {
	for _, name := range []string{"relay", "migrate"} {
		var environ []string
		for variable, value := range services(t)[name].Environment {
			if strings.HasPrefix(value, "${") { // passed on from the caller, empty unless set
				value = ""
			}
			environ = append(environ, variable+"="+value)
		}
		_, err := config.Load("", environ)
		require.NoError(t, err, name)
	}
}

func TestComposeStartsPostgresForLogicalReplication(t *testing.T) {
	command := services(t)["postgres"].Command
	require.Contains(t, command, "wal_level=logical")
	require.True(t, slices.ContainsFunc(command, func(arg string) bool {
		return strings.HasPrefix(arg, "max_slot_wal_keep_size=")
	}), "a slot must not be able to fill the disk")
}

func TestComposeServicesAreHealthCheckedAndHardened(t *testing.T) {
	for name, s := range services(t) {
		if s.isLongRunning() {
			require.Equal(t, "unless-stopped", s.Restart, name)
			require.NotEmpty(t, s.Healthcheck.Test, name)
			require.Equal(t, "CMD", s.Healthcheck.Test[0], "%s: its image may have no shell", name)
		}
		require.True(t, s.ReadOnly, name)
		require.Equal(t, []string{"ALL"}, s.CapDrop, name)
		require.Equal(t, []string{"no-new-privileges:true"}, s.SecurityOpt, name)
		for _, port := range s.Ports {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s: %s is open to the network", name, port)
		}
	}
}

func TestTheRelayWaitsForWhatItNeeds(t *testing.T) {
	all := services(t)
	for dependency, condition := range map[string]string{
		"postgres": "service_healthy", "nats": "service_healthy", "migrate": "service_completed_successfully",
	} {
		require.Equal(t, condition, all["relay"].DependsOn[dependency].Condition, dependency)
	}
	require.Equal(t, "65532:65532", all["relay"].User)
	require.Equal(t, []string{"migrate", "up"}, all["migrate"].Command)
}

func TestTheSampleChangesRowsEveryTimeItRuns(t *testing.T) {
	tables, err := os.ReadFile("../migrations/001_dev_samples.sql")
	require.NoError(t, err)
	sample, err := os.ReadFile("sample.sql")
	require.NoError(t, err)
	db := pgtest.New(t)
	_, err = db.Pool.Exec(t.Context(), string(tables))
	require.NoError(t, err)
	for range 2 {
		_, err = db.Pool.Exec(t.Context(), string(sample))
		require.NoError(t, err)
	}
	var agents, things, thingRuns, completed int
	require.NoError(t, db.Pool.QueryRow(t.Context(), `
		select (select count(*) from agents), (select count(*) from things),
		       (select (data ->> 'runs')::int from things), (select count(*) from workflow_runs where status = 'completed')`,
	).Scan(&agents, &things, &thingRuns, &completed))
	require.Equal(t, []int{2, 1, 2, 2}, []int{agents, things, thingRuns, completed})
}

// variables lists the names in the env tags of a settings struct.
func variables(settings reflect.Type) []string {
	var names []string
	for field := range settings.Fields() {
		if field.Tag.Get("yaml") == "-" { // no setting
			continue
		}
		if name := field.Tag.Get("env"); name != "" {
			names = append(names, name)
		} else {
			names = append(names, variables(field.Type)...)
		}
	}
	return names
}
