// Command notices writes the licences of everything from others that the binaries hold: the modules
// that are linked into devicehub and firmware-sim, the npm packages that are bundled into the
// dashboard, Go's own library and what was taken over by hand. `make notices` runs it; the file is part
// of the checkout and of the binary, which prints it with `devicehub licenses`.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	text, err := notices(".")
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

// part is one thing that others made.
type part struct {
	name, version string
	source        string   // where its source is had
	texts         []string // its licences and notices
}

// notices is the whole file, for the checkout at root.
func notices(root string) ([]byte, error) {
	var all []part
	for _, find := range []func(string) ([]part, error){standardLibrary, modules, packages} {
		parts, err := find(root)
		if err != nil {
			return nil, err
		}
		all = append(all, parts...)
	}
	all = append(all, part{"the list of common passwords", "zxcvbn 4.4.2", "https://github.com/dropbox/zxcvbn", []string{zxcvbn}})
	for _, p := range all {
		if len(p.texts) == 0 {
			return nil, fmt.Errorf("%s %s has no licence that could be found", p.name, p.version)
		}
	}
	return render(all), nil
}

// render lists the parts and then each text once, with the parts that it is of.
func render(all []part) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "What devicehub and firmware-sim hold from others, and under which licences. The source\nof each part is at the address beside it, in the version named.\n\n")
	of := map[string][]string{}
	var texts []string
	for _, p := range all {
		fmt.Fprintf(&b, "%s  %s\n", strings.TrimSpace(p.name+" "+p.version), p.source)
		for _, t := range p.texts {
			if of[t] == nil {
				texts = append(texts, t)
			}
			of[t] = append(of[t], p.name)
		}
	}
	for _, t := range texts {
		fmt.Fprintf(&b, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(slices.Compact(of[t]), "\n"), t)
	}
	return b.Bytes()
}

func standardLibrary(string) ([]part, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	texts, err := licences(strings.TrimSpace(string(out)))
	return []part{{"Go's standard library", "", "https://go.dev/dl/", texts}}, err
}

// modules are those of which a package is linked into a binary for any system that is released.
func modules(root string) ([]part, error) {
	type module struct{ Path, Version, Dir string }
	found := map[string]module{}
	for _, of := range [][]string{ // released without cgo; `make build` has it where there is a C compiler
		{"CGO_ENABLED=0", "GOARCH=amd64"}, {"CGO_ENABLED=0", "GOARCH=arm64"}, {"CGO_ENABLED=0", "GOARCH=arm"}, {"CGO_ENABLED=1", "GOARCH=amd64"},
	} {
		cmd := exec.Command("go", "list", "-deps", "-json=Module", "./cmd/devicehub", "./cmd/firmware-sim")
		cmd.Dir, cmd.Env = root, append(append(os.Environ(), "GOOS=linux"), of...)
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
			var p struct{ Module *module }
			if err := dec.Decode(&p); err != nil {
				return nil, err
			}
			if p.Module != nil && p.Module.Version != "" {
				found[p.Module.Path] = *p.Module
			}
		}
	}
	var parts []part
	for _, m := range found {
		texts, err := licences(m.Dir)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part{m.Path, m.Version, "https://pkg.go.dev/" + m.Path + "@" + m.Version, texts})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.name, b.name) })
	return parts, nil
}

// packages are those that the dashboard depends on while it runs, as its lock file says.
func packages(root string) ([]part, error) {
	dir := filepath.Join(root, "dashboard")
	b, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return nil, err
	}
	var lock struct {
		Packages map[string]struct {
			Version string
			Dev     bool
		}
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		return nil, err
	}
	var parts []part
	for path, p := range lock.Packages {
		if path == "" || p.Dev {
			continue
		}
		texts, err := licences(filepath.Join(dir, path))
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w; run `make node`", err)
		} else if err != nil {
			return nil, err
		}
		name := path[strings.LastIndex(path, "node_modules/")+len("node_modules/"):]
		parts = append(parts, part{name, p.Version, repository(filepath.Join(dir, path), name), texts})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version)) })
	return parts, nil
}

// repository is where a package says that its source is, else its page.
func repository(dir, name string) string {
	var is struct{ Repository any }
	b, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil || json.Unmarshal(b, &is) != nil {
		return "https://www.npmjs.com/package/" + name
	}
	address, _ := is.Repository.(string)
	if m, ok := is.Repository.(map[string]any); ok {
		address, _ = m["url"].(string)
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "git+"), ".git")
	switch {
	case strings.HasPrefix(address, "https://"):
		return address
	case strings.HasPrefix(address, "git://"):
		return "https" + strings.TrimPrefix(address, "git")
	case strings.Count(address, "/") == 1 && !strings.Contains(address, ":"):
		return "https://github.com/" + address
	}
	return "https://www.npmjs.com/package/" + name
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|unlicense)([-._].*)?$`)

// licences are the texts of the files at the top of a folder that hold licences.
func licences(dir string) (texts []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if text := tidy(string(b)); text != "" {
			texts = append(texts, text)
		}
	}
	return texts, nil
}

// tidy takes away how lines end, so that equal texts are equal.
func tidy(s string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimPrefix(s, "\ufeff")) {
		lines = append(lines, strings.TrimRight(line, " \t\r\n"))
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}
