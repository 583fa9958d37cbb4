// What is promised of functions in several levels: the best level of this machine is chosen, every level is made of its
// own code alone, whatever is inline, nothing of a level runs before it is chosen, and what cannot be is said in words.

#include <cstdio>
#include <cstring>
#include <vector>

#include "shared.hpp"

std::string constructed;

namespace {

int failures = 0;

void expect(bool holds, const std::string& what) {
    if (!holds) {
        std::printf("FAILED: %s\n", what.c_str());
        ++failures;
    }
}

template <class Call>
std::string error_of(const Call& call) {
    try {
        call();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "no error";
}

/// By other means than the library's.
moe::Level best_of_compiler() {
    if (__builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
        __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512cd") != 0 &&
        __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0) {
        return moe::Level::avx512;
    }
    if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
        __builtin_cpu_supports("bmi2") != 0) {
        return moe::Level::avx2;
    }
    return moe::Level::sse2;
}

void check_level(moe::Level level) {
    const std::string name(moe::level_name(level));
    constructed.clear();
    const auto report = probe::report.at(level);
    expect(constructed == name + ":early " + name + ":late ",
           name + " constructs its objects when chosen: " + constructed);
    const std::string first = report(false);
    expect(first == name + " " + name + " 1", name + " is made of its own code: " + first);
    expect(probe::report.at(name)(false) == name + " " + name + " 2", name + " is found by its name");
    expect(probe::count.at(level)() == 2, name + " has one copy of its variables");
    expect(constructed == name + ":early " + name + ":late ", name + " constructs its objects once");
    try {
        report(true);
        expect(false, name + " throws");
    } catch (const Mistake& mistake) {
        expect(mistake.what() == name + " was told to", name + " throws what can be caught by its type");
    }
    expect(compiled_for() == "sse2", "the rest of the program is for all processors: " + compiled_for());
}

}  // namespace

int main() {
    expect(constructed.empty(), "nothing of a level runs before it is chosen: " + constructed);

    const auto levels = probe::report.levels();
    expect(levels.front() == moe::Level::sse2, "the least level is there");
    expect(probe::report.best() == best_of_compiler(), "the best level is chosen");
    expect(probe::report.level_called("") == probe::report.best(), "no name means the best");
    std::size_t ran = 0;
    for (const moe::Level level : levels) {
        if (moe::runs_here(level)) {
            check_level(level);
            ++ran;
            continue;
        }
        const std::string name(moe::level_name(level));
        expect(error_of([&] { static_cast<void>(probe::report.at(name)); }) ==
                   "report: this machine cannot run the level " + name + ", only levels up to " +
                       std::string(moe::level_name(moe::machine_level())),
               name + " is refused in words");
    }
    const std::string best(moe::level_name(probe::report.best()));
    expect(probe::report(false) == best + " " + best + " 4", "a call goes to the best level");

    // amx is left out in CMakeLists.txt
    expect(error_of([] {
               static_cast<void>(probe::report.at(moe::Level::amx));
           }).find("report: it is not compiled for the level amx, only for sse2") == 0,
           "a level that was left out is refused");
    expect(error_of([] {
               static_cast<void>(probe::report.at("mmx"));
           }).find("report: there is no level \"mmx\"; it is compiled for sse2") == 0,
           "a level that does not exist is refused");
    std::printf("%zu of %zu levels ran\n", ran, levels.size());
    return failures == 0 && ran > 0 ? 0 : 1;
}
