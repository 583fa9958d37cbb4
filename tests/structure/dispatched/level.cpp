// Compiled once for each level. What is static here, and the helper, exist once in each.

#include <iostream>  // whose static object has a constructor

#include "helper.hpp"
#include "shared.hpp"

namespace {

struct Announced {
    explicit Announced(const char* name) { constructed += compiled_for() + ":" + name + " "; }
};

const Announced late("late");
__attribute__((init_priority(200))) const Announced early("early");

int calls = 0;

}  // namespace

namespace probe {

std::string MOE_LEVEL::report(bool fail) {
    ++calls;
    if (fail) {
        throw Mistake(compiled_for() + " was told to");
    }
    std::clog << "";
    return compiled_for() + " " + compiled_for_helper() + " " + std::to_string(calls);
}

int MOE_LEVEL::count() { return calls; }

}  // namespace probe
