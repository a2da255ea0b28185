// Cases, comparisons with f64 references, and planted faults: what the tests of the kernels share.
#pragma once
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <functional>
#include <vector>
#include "../common.cuh"

#if defined(__SANITIZE_THREAD__)
extern "C" const char *__tsan_default_options() { return "halt_on_error=1:exitcode=66:report_signal_unsafe=0"; }
#endif

namespace check {
inline uint64_t seed = 1;
// -1 to 1.
inline float uniform() {
  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
  return (float)((seed >> 40) & 0xffffff) / 8388608.f - 1.f;
}
template <typename T> std::vector<T> random_values(size_t count, float scale = 1.f) {
  std::vector<T> values(count);
  for (T &value : values) value = from_float<T>(scale * uniform());
  return values;
}
// An output: NaN until it is written.
template <typename T> std::vector<T> unwritten(size_t count) { return std::vector<T>(count, from_float<T>(NAN)); }
template <typename T> double value(T x) { return (double)to_float(x); }

struct Case {
  std::string name;
  std::function<void()> run;
};
inline std::vector<Case> cases;
inline double worst;        // of the case that runs: the error over its tolerance
inline std::string where;   // of the first value beyond it

// |y - expected| <= tolerance * (1 + |expected|), for each value; NaN fails, and with 0 whatever is not equal.
template <typename T> void compare(const char *what, const std::vector<T> &y, const std::vector<double> &expected, double tolerance) {
  if (y.size() != expected.size()) {
    fprintf(stderr, "%s: %zu values, %zu expected\n", what, y.size(), expected.size());
    exit(4);
  }
  const bool planted = shim::fault && !strcmp(shim::fault, "result");
  for (size_t i = 0; i < y.size(); i++) {
    double got = value(y[i]);
    if (got == expected[i] && !planted) continue;
    if (planted && i == y.size() / 2) got += 3 * (tolerance + 1e-9) * (1 + fabs(expected[i]));
    const double error = fabs(got - expected[i]) / (tolerance * (1 + fabs(expected[i])));
    if (!(error <= worst)) {
      if (!(error <= 1) && where.empty()) {
        char text[160];
        snprintf(text, sizeof text, " (%s at %zu: %g is not %g)", what, i, got, expected[i]);
        where = text;
      }
      worst = error == error ? error : INFINITY;
    }
  }
}

// A kernel with a fault of its own; `run` says whether its numbers are right. `noticed`: what this build must do.
struct Fault {
  const char *name;
  bool noticed;
  std::function<bool()> run;
};
inline std::vector<Fault> faults;

inline bool passes(const Case &c, bool show) {
  worst = 0;
  where.clear();
  c.run();
  const bool ok = where.empty();
  if (show) printf("%s %s: %.2f of the tolerance%s\n", ok ? "ok  " : "FAIL", c.name.c_str(), worst, where.c_str());
  return ok;
}
// The exit code of a child that the fault does not concern.
constexpr int UNCONCERNED = 5;
// What becomes of a process of its own that works: its exit code, or -1 when a signal ended it. What it says is dropped.
inline int exit_code(const std::function<int()> &work) {
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(0);
    _exit(work());
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
// What a case says to a planted fault: 0 when it does not notice.
inline int reaction(const Case &c, const char *fault) {
  return exit_code([&] {
    shim::fault = fault;
    const bool ok = passes(c, false);
    return !strcmp(fault, "shared") && !shim::shortened ? UNCONCERNED : !ok;
  });
}

// kernels_test                    all cases, and a line `N passed, N failed`
// kernels_test sites              the places that each case passes: `<case>\t<site>`
// kernels_test faults FILE        each place of such a list left out: a case that passes it must fail
// kernels_test shim               kernels that are wrong by themselves: the shim or a sanitizer must notice
// kernels_test every FAULT        a fault that every case must notice (`result`), or every case that it concerns
inline int main(int count, char **arguments) {
  const std::string verb = count > 1 ? arguments[1] : "";
  if (const char *given = getenv("SHIM_SEED")) seed = strtoull(given, nullptr, 0) * 0x9E3779B97F4A7C15ull + 1;
  int passed = 0, failed = 0;
  if (verb == "sites") {
    shim::sites = new std::set<std::string>;
    for (size_t i = 0; i < cases.size(); i++) {
      shim::sites->clear();
      passes(cases[i], false);
      for (const std::string &site : *shim::sites) printf("%zu\t%s\n", i, site.c_str());
    }
    return 0;
  }
  if (verb == "faults") {
    std::vector<std::pair<std::string, std::vector<size_t>>> places;
    FILE *list = fopen(arguments[2], "r");
    char line[512];
    while (list && fgets(line, sizeof line, list)) {
      line[strcspn(line, "\n")] = 0;
      const std::string site = strchr(line, '\t') + 1;
      size_t at = 0;
      while (at < places.size() && places[at].first != site) at++;
      if (at == places.size()) places.push_back({site, {}});
      places[at].second.push_back(strtoull(line, nullptr, 10));
    }
    for (const auto &[site, reached] : places) {
      bool found = false;
      for (size_t i = 0; i < reached.size() && !found; i++) found = reaction(cases[reached[i]], site.c_str()) != 0;
      printf("%s %s left out%s\n", found ? "ok  " : "FAIL", site.c_str(), found ? " is noticed" : ": no case notices");
      (found ? passed : failed)++;
    }
  } else if (verb == "shim") {
    for (const Fault &f : faults) {
      const bool found = exit_code([&] { return f.run() ? 0 : 1; }) != 0;
      if (found != f.noticed) printf("FAIL the shim and \"%s\"\n", f.name);
      (found == f.noticed ? passed : failed)++;
    }
  } else if (verb == "every") {
    for (const Case &c : cases) {
      const int code = reaction(c, arguments[2]);
      if (code == UNCONCERNED) continue;
      if (code == 0) printf("FAIL %s does not notice the fault \"%s\"\n", c.name.c_str(), arguments[2]);
      (code ? passed : failed)++;
    }
  } else {
    for (const Case &c : cases) (passes(c, true) ? passed : failed)++;
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0 || passed == 0;
}
}  // namespace check
