package bench

// CountValid counts the runs and the valid ones, and gives an example of the reason that invalid runs share most often, "" when there is
// none.
func (r *Results) CountValid() (runs, valid int, reason string) {
	kinds, examples := map[string]int{}, map[string]string{}
	for _, p := range r.Points {
		for _, run := range p.Runs {
			runs++
			if run.Valid {
				valid++
				continue
			}
			for _, text := range run.Reasons {
				kind := reasonKind(text)
				if kinds[kind]++; examples[kind] == "" {
					examples[kind] = text
				}
			}
		}
	}
	best := ""
	for kind, n := range kinds {
		if best == "" || n > kinds[best] || n == kinds[best] && kind < best {
			best = kind
		}
	}
	return runs, valid, examples[best]
}
