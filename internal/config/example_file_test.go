package config_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/internal/secret"
)

const exampleFile = "../../relay.example.yaml"

func TestTheExampleFileIsTheDefaults(t *testing.T) {
	cfg, err := config.Load(exampleFile, []string{dsnEnv})
	require.NoError(t, err)
	want := config.Default()
	want.Source.URL = secret.New(dsn)
	require.Equal(t, want, cfg)
}

func TestTheExampleFileExplainsEverySetting(t *testing.T) {
	content, err := os.ReadFile(exampleFile)
	require.NoError(t, err)
	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal(content, &doc))
	explain(t, doc.Content[0], reflect.TypeFor[config.Config]())
}

// explain requires the keys of node to be those of the struct, in its order, each
// with a comment above it and its variable beside it.
func explain(t *testing.T, node *yaml.Node, settings reflect.Type) {
	t.Helper()
	left := node.Content
	for field := range settings.Fields() {
		tag := field.Tag
		if tag.Get("yaml") == "-" {
			continue
		}
		require.GreaterOrEqual(t, len(left), 2, "the file lacks %s", tag.Get("yaml"))
		key, value := left[0], left[1]
		left = left[2:]
		require.Equal(t, tag.Get("yaml"), key.Value)
		variable := tag.Get("env")
		if variable == "" {
			explain(t, value, field.Type)
			continue
		}
		require.NotEmpty(t, key.HeadComment, "%s has no comment", key.Value)
		beside := strings.Trim(key.LineComment+value.LineComment, "# ")
		name, _, _ := strings.Cut(beside, ",")
		require.Equal(t, variable, name)
	}
	require.Empty(t, left, "keys that are no settings")
}
