package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

const (
	envPrefix         = "DEVICEHUB_"
	defaultConfigFile = "devicehub.yaml"
	maxConfigFile     = 1 << 20 // bytes
)

// ownEnv are variables of devicehub that are no keys of the configuration.
func ownEnv() []string { return []string{tokenEnv} }

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	Origin string // where it was given: "devicehub.yaml:12", "DEVICEHUB_HTTP_LISTEN", "--http.listen", "" for a default
	Key    string // "" when it is no single key's
	Text   string
}

func (p Problem) String() string {
	var parts []string
	for _, s := range []string{p.Origin, p.Key, p.Text} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' ' // a key may be any text; the line stays one
	}, strings.Join(parts, ": "))
}

// Problems is all that is wrong with a configuration, as an error of one line.
type Problems []Problem

func (ps Problems) Error() string {
	switch len(ps) {
	case 0:
		return "no problem"
	case 1:
		return ps[0].String()
	}
	return fmt.Sprintf("%s (and %d more; `devicehub config check` lists them)", ps[0], len(ps)-1)
}

// Loaded is a configuration and where it came from.
type Loaded struct {
	Config   Config
	File     string            // the file read, "" for none
	Origins  map[string]string // by key, of what is not a default
	Warnings []string          // unknown variables
}

// LoadConfig reads the configuration: defaults, then the file (path; when it
// is "", ./devicehub.yaml if there is one), then the environment, then those
// flags that were given. Flags made by addConfigFlags count; flags may be nil.
// What is wrong comes back as Problems.
func LoadConfig(path string, flags *pflag.FlagSet) (*Loaded, error) {
	l := &Loaded{Origins: map[string]string{}}
	file, problems, err := l.readFile(path)
	if err != nil {
		return nil, err
	}

	v := viper.New()
	v.AllowEmptyEnv(true)
	defaults := Default()
	keys := configKeys()
	for _, k := range keys {
		v.SetDefault(k.Path, plain(k.In(&defaults)))
		if k.List() {
			continue
		}
		if err := v.BindEnv(k.Path, k.Env()); err != nil {
			return nil, err
		}
		if s, ok := os.LookupEnv(k.Env()); ok {
			l.Origins[k.Path] = k.Env()
			if _, err := parseValue(k.Type, s); err != nil {
				text := err.Error()
				if s == "" {
					text = "is empty; unset it, or give it a value"
				}
				problems = append(problems, Problem{Origin: k.Env(), Key: k.Path, Text: text})
			}
		}
		if flags == nil {
			continue
		}
		if f := flags.Lookup(k.Flag()); f != nil && f.Changed {
			l.Origins[k.Path] = "--" + f.Name
			if err := v.BindPFlag(k.Path, f); err != nil {
				return nil, err
			}
		}
	}
	l.Warnings = unknownEnv(os.Environ(), keys)
	if len(problems) > 0 {
		return nil, problems
	}
	if err := v.MergeConfigMap(file.Values); err != nil {
		return nil, err
	}
	if err := v.UnmarshalExact(&l.Config, viper.DecodeHook(mapstructure.TextUnmarshallerHookFunc())); err != nil {
		return nil, err
	}
	l.Config.fillBridges()
	if ps := l.Config.Check(); len(ps) > 0 {
		for i := range ps {
			ps[i].Origin = l.originOf(ps[i].Key)
		}
		return nil, ps
	}
	return l, nil
}

// readFile reads and checks the YAML file and notes the origin of its keys.
func (l *Loaded) readFile(path string) (yamlFile, Problems, error) {
	name := path
	if name == "" {
		name = defaultConfigFile
	}
	f, err := os.Open(name)
	if path == "" && errors.Is(err, fs.ErrNotExist) {
		return yamlFile{}, nil, nil
	} else if err != nil {
		return yamlFile{}, nil, fmt.Errorf("configuration: %w; give a readable file with --config", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return yamlFile{}, nil, fmt.Errorf("configuration: %w; give a readable file with --config", err)
	}
	if len(text) > maxConfigFile {
		return yamlFile{}, nil, fmt.Errorf("configuration: %s is larger than 1 MiB and no configuration file", name)
	}
	l.File = name
	y, problems := parseYAML(name, text)
	for key, line := range y.Lines {
		l.Origins[key] = name + ":" + strconv.Itoa(line)
	}
	return y, problems, nil
}

// originOf is where key was given; for a key within a list that is missing
// there, where the list's entry stands.
func (l *Loaded) originOf(key string) string {
	for key != "" {
		if o, ok := l.Origins[key]; ok {
			return o
		}
		cut := strings.LastIndexAny(key, ".[")
		if cut < 0 || !strings.Contains(key, "[") {
			return ""
		}
		key = key[:cut]
	}
	return ""
}

// plain is v as viper takes it: texts for durations and sizes.
func plain(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case Duration:
		return x.String()
	case Size:
		return x.String()
	default:
		return x
	}
}

// unknownEnv warns of variables that begin as ours do and mean nothing.
func unknownEnv(environ []string, keys []configKey) []string {
	known := map[string]bool{}
	lists := map[string]bool{}
	for _, k := range keys {
		known[k.Env()] = !k.List()
		lists[k.Env()] = k.List()
	}
	names := slices.Sorted(maps.Keys(known))
	var warnings []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || known[name] || slices.Contains(ownEnv(), name) {
			continue
		}
		text := name + ": unknown variable, ignored"
		if lists[name] {
			text = name + ": ignored; lists come from the file only"
		} else if n := nearest(name, names); n != "" {
			text += "; did you mean " + n + "?"
		}
		warnings = append(warnings, text)
	}
	slices.Sort(warnings)
	return warnings
}

// addConfigFlags gives flags one flag for every key that is neither a list nor
// a secret (a secret on a command line can be read by every process). Only
// those named in shown appear in the help. data_dir is a flag of every command
// already.
func addConfigFlags(flags *pflag.FlagSet, shown map[string]string) {
	defaults := Default()
	for _, k := range configKeys() {
		if k.List() || k.Secret || k.Path == "data_dir" {
			continue
		}
		f := flags.VarPF(&keyFlag{key: k, text: fmt.Sprint(plain(k.In(&defaults)))}, k.Flag(), "", shown[k.Path])
		if k.Type.Kind() == reflect.Bool {
			f.NoOptDefVal = "true"
		}
		f.Hidden = shown[k.Path] == ""
	}
}

// keyFlag is the value of one key's flag.
type keyFlag struct {
	key  configKey
	text string
}

func (f *keyFlag) String() string { return f.text }

func (f *keyFlag) Set(s string) error {
	_, err := parseValue(f.key.Type, s)
	if err == nil {
		f.text = s
	}
	return err
}

// Type is the word that the help shows for the value.
func (f *keyFlag) Type() string {
	switch {
	case f.key.Type == reflect.TypeFor[Duration]():
		return "duration"
	case f.key.Type == reflect.TypeFor[Size]():
		return "size"
	}
	return f.key.Type.Kind().String()
}
