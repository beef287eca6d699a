// Newchannel writes a channel and its test, to begin with:
//
//	go run devicehub/hub/cmd/newchannel sensor
//
// makes sensor_channel.go, with a type Sensor for the topics "sensor:*", and
// sensor_channel_test.go. Words of a name are joined by underscores, as in chat_room.
package main

import (
	"bytes"
	"embed"
	"errors"
	"flag"
	"fmt"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"text/template"

	"devicehub/hub"
)

//go:embed channel.go.tmpl channel_test.go.tmpl
var templates embed.FS

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "newchannel:", err)
		}
		os.Exit(1)
	}
}

// channel is what the templates are filled with.
type channel struct {
	Package string // that it is written into
	Hub     string // the import path of package hub
	Type    string // Sensor
	Topic   string // sensor
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("newchannel", flag.ContinueOnError)
	dir := flags.String("dir", ".", "folder to write into")
	pkg := flags.String("package", "", "name of the package; that of the Go files in the folder, or the folder's, by default")
	force := flags.Bool("force", false, "overwrite files that are there")
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: newchannel [flags] name\n\nwrites name_channel.go and its test.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		flags.Usage()
		return errors.New("want one name")
	}
	c, err := newChannel(flags.Arg(0))
	if err != nil {
		return err
	}
	if c.Package = *pkg; c.Package == "" {
		if c.Package, err = packageOf(*dir); err != nil {
			return err
		}
	}
	if !token.IsIdentifier(c.Package) {
		return fmt.Errorf("%q is no name of a package: choose one with -package", c.Package)
	}
	files, err := c.files()
	if err != nil {
		return err
	}
	return write(out, *dir, c, files, *force)
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// newChannel turns the name that was given into those of the type and the topic.
func newChannel(name string) (*channel, error) {
	if !nameForm.MatchString(name) {
		return nil, fmt.Errorf("%q: a name is in small letters and digits, its words joined by underscores, as in chat_room", name)
	}
	c := &channel{Hub: reflect.TypeFor[hub.Endpoint]().PkgPath(), Topic: name}
	for word := range strings.SplitSeq(name, "_") {
		c.Type += strings.ToUpper(word[:1]) + word[1:]
	}
	return c, nil
}

// packageOf is the package of the Go files in a folder, or one named after an empty folder.
func packageOf(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.PackageClauseOnly)
		if err != nil {
			return "", err
		}
		return f.Name.Name, nil
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return strings.ReplaceAll(strings.ToLower(filepath.Base(abs)), "-", ""), nil
}

// files returns the text of the files by their names.
func (c *channel) files() (map[string][]byte, error) {
	parsed, err := template.ParseFS(templates, "*.tmpl")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, t := range parsed.Templates() {
		var text bytes.Buffer
		if err := t.Execute(&text, c); err != nil {
			return nil, err
		}
		name := c.Topic + "_" + strings.TrimSuffix(t.Name(), ".tmpl")
		if files[name], err = format.Source(text.Bytes()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return files, nil
}

// write writes the files, all or none, and says what is left to do.
func write(out io.Writer, dir string, c *channel, files map[string][]byte, force bool) error {
	for name := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil && !force {
			return fmt.Errorf("%s is there already: -force overwrites it", filepath.Join(dir, name))
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range []string{c.Topic + "_channel.go", c.Topic + "_channel_test.go"} {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return err
		}
		fmt.Fprintln(out, "wrote", filepath.Join(dir, name))
	}
	fmt.Fprintf(out, "\nAdd the channel to your router:\n\n\tr.Channel(%q, func() hub.Channel { return new(%s) })\n", c.Topic+":*", c.Type)
	return nil
}
