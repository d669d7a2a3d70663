package wire

import "strings"

// parsePath splits the argument of MAIL or RCPT into what is between < and >,
// without source route, and the parameters. It accepts blanks before <, as many
// senders need, but not a missing <.
func parsePath(arg, prefix string) (path, params string, ok bool) {
	if len(arg) < len(prefix) || !strings.EqualFold(arg[:len(prefix)], prefix) {
		return "", "", false
	}
	rest := strings.TrimLeft(arg[len(prefix):], " \t")
	if !strings.HasPrefix(rest, "<") {
		return "", "", false
	}
	quoted := false
	for i := 1; i < len(rest); i++ {
		switch ch := rest[i]; {
		case quoted && ch == '\\':
			i++
		case ch == '"':
			quoted = !quoted
		case ch == '>' && !quoted:
			path, params = rest[1:i], rest[i+1:]
			if params != "" && params[0] != ' ' && params[0] != '\t' {
				return "", "", false
			}
			if strings.HasPrefix(path, "@") { // RFC 5321 §4.1.1.3: ignore the route
				if _, path, ok = strings.Cut(path, ":"); !ok {
					return "", "", false
				}
			}
			return path, strings.Trim(params, " \t"), true
		}
	}
	return "", "", false
}
