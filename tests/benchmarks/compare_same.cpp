// usage: compare_same FILE FILE: whether two files of moe_compare --json hold the same routing figures, bit for bit:
// all of balance, quality, collapse, trained and training but seconds, and of speed all but times. Names what differs.
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using Json = nlohmann::json;

int failures = 0;

void check(bool holds, const std::string& what) {
    if (!holds) {
        std::cerr << "FAILED: " << what << '\n';
        ++failures;
    }
}

Json read(const char* path) {
    std::ifstream file(path);
    return Json::parse(file);
}

/// The members of a row that don't tell times.
Json without_times(const std::string& section, const Json& row) {
    if (section != "speed") {
        Json result = row;
        result.erase("seconds");
        return result;
    }
    Json result;
    for (const char* name : {"strategy", "shape", "tokens", "active_experts", "load_min", "load_median", "load_max"}) {
        result[name] = row.at(name);
    }
    return result;
}

void compare(const std::string& section, const Json& a, const Json& b) {
    // not every comparison trains
    const bool may_be_empty = section == "trained" || section == "training";
    check((may_be_empty || !a.empty()) && a.size() == b.size(),
          section + " has " + std::to_string(a.size()) + " and " + std::to_string(b.size()) + " rows");
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
        check(without_times(section, a[i]) == without_times(section, b[i]),
              section + ", row " + std::to_string(i) + ": " + a[i].dump() + " and " + b[i].dump());
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::cerr << "usage: compare_same FILE FILE\n";
        return 2;
    }
    try {
        const Json a = read(argv[1]);
        const Json b = read(argv[2]);
        for (const char* section : {"speed", "balance", "quality", "collapse", "trained", "training"}) {
            compare(section, a.at(section), b.at(section));
        }
    } catch (const std::exception& error) {
        std::cerr << "FAILED: " << error.what() << '\n';
        return 1;
    }
    return failures == 0 ? 0 : 1;
}
