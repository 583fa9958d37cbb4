// usage: check_json FILE SHAPE TOKENS THREADS [backward]: whether FILE is what moe_bench --json writes for one row.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>

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

/// `name` is there and a number in [least, most].
void check_number(const Json& row, const char* name, double least, double most) {
    const bool number = row.contains(name) && row[name].is_number();
    check(number, std::string(name) + " is not a number");
    if (number) {
        const double value = row[name];
        check(value >= least && value <= most, std::string(name) + " is " + std::to_string(value));
    }
}

void check_seconds(const Json& seconds) {
    const double min = seconds.at("min");
    const double median = seconds.at("median");
    const double p95 = seconds.at("p95");
    check(0 < min && min <= median && median <= p95, "the order of min, median and p95");
}

void check_near(double value, double expected, const char* what) { check(std::abs(value / expected - 1) < 1e-9, what); }

/// Of moe_bench --backward.
void check_backward_row(const Json& row, const std::string& shape, int tokens, int threads) {
    constexpr double large = 1e12;
    constexpr double small = 1e-12;
    check(row.at("shape") == shape, "shape");
    check(row.at("format") == "f32", "format");
    check(row.at("pass") == "backward", "pass");
    check(row.at("tokens") == tokens, "tokens");
    check(row.at("threads") == threads, "threads");
    check(row.at("correct") == true, "correct");
    check(!row.at("kernel").get<std::string>().empty(), "kernel");
    check_seconds(row.at("forward_seconds"));
    for (const char* part : {"forward", "backward", "both"}) {
        check_seconds(row.at("seconds").at(part));
        for (const auto& [rival, seconds] : row.at("rival_seconds").items()) {
            check_seconds(seconds.at(part));
        }
        const bool alone = row.at("one_thread_seconds").at(part).at("samples").get<int>() > 0;
        check(alone == (threads > 1), "one thread is measured beside several");
    }
    for (const char* name : {"backward_over_forward", "tokens_per_second", "gflops", "fma_peak", "read_bandwidth",
                             "roofline_seconds", "fraction_of_roofline", "fraction_of_peak"}) {
        check_number(row, name, small, large);
    }
    check_number(row, "nmse", 0, 1e-10);
    check_number(row, "workspace_bytes", 1, large);
    const double both = row.at("seconds").at("both").at("median");
    for (const auto& [rival, seconds] : row.at("rival_seconds").items()) {
        check_near(row.at("speedup_" + rival).get<double>(), seconds.at("both").at("median").get<double>() / both,
                   "the speedup over a rival");
    }
    check_near(row.at("backward_over_forward").get<double>(),
               row.at("seconds").at("backward").at("median").get<double>() /
                   row.at("forward_seconds").at("median").get<double>(),
               "backward over forward");
    check_near(row.at("tokens_per_second").get<double>() * both, tokens, "tokens a second");
    // 2 of 8 experts of 128 x 96 and a shared one of 128 x 64
    const double operations = 18.0 * tokens * 128 * (2 * 96 + 64);
    check_near(row.at("gflops").get<double>() * 1e9 * both, operations, "the operations");
    const double bytes = 16.0 * 3 * 128 * (row.at("distinct_experts").get<double>() * 96 + 64);
    const double roofline =
        std::max(operations / row.at("fma_peak").get<double>(), bytes / row.at("read_bandwidth").get<double>()) / 1e9;
    check_near(row.at("roofline_seconds").get<double>(), roofline, "the roofline");
    check_near(row.at("fraction_of_roofline").get<double>(), roofline / both, "the fraction of the roofline");
}

void check_row(const Json& row, const std::string& shape, int tokens, int threads) {
    constexpr double large = 1e12;
    constexpr double small = 1e-12;
    check(row.at("shape") == shape, "shape");
    check(row.at("format") == "f32", "format");
    check(row.at("compute") == "exact", "compute");
    check(row.at("tokens") == tokens, "tokens");
    check(row.at("threads") == threads, "threads");
    check(row.at("correct") == true, "correct");
    check(!row.at("kernel").get<std::string>().empty(), "kernel");
    check_seconds(row.at("seconds"));
    const double median = row.at("seconds").at("median");
    for (const char* name : {"tokens_per_second", "gflops", "weight_gb_per_second", "fma_peak", "read_bandwidth",
                             "roofline_seconds", "fraction_of_roofline", "speedup_dense"}) {
        check_number(row, name, small, large);
    }
    check_number(row, "nmse", 0, 1e-10);
    check_number(row, "workspace_bytes", 1, large);
    check_number(row, "route_share", 0, 1);
    check_number(row, "combine_share", 0, 1);
    for (const char* name :
         {"int8_peak", "speedup_eigen", "speedup_onednn", "speedup_threads", "one_expert_slowdown"}) {  // not always
        check(row.contains(name), name);
        if (row.contains(name) && !row[name].is_null()) {
            check_number(row, name, small, large);
        }
    }
    check(std::abs(row.at("tokens_per_second").get<double>() * median / tokens - 1) < 1e-9, "tokens a second");
    const double fraction = row.at("roofline_seconds").get<double>() / median;
    check(std::abs(row.at("fraction_of_roofline").get<double>() / fraction - 1) < 1e-9, "the fraction of the roofline");
    // 2 of 8 experts of 128 x 96 and a shared one of 128 x 64
    const double operations = 2.0 * tokens * 3 * 128 * (2 * 96 + 64);
    check(std::abs(row.at("gflops").get<double>() * 1e9 * median / operations - 1) < 1e-9, "the operations");
}

}  // namespace

int main(int argc, char** argv) {
    const bool backward = argc == 6 && std::string_view(argv[5]) == "backward";
    if (argc != 5 && !backward) {
        std::cerr << "usage: check_json FILE SHAPE TOKENS THREADS [backward]\n";
        return 2;
    }
    try {
        std::ifstream file(argv[1]);
        const Json document = Json::parse(file);
        for (const char* name : {"cpu", "cores", "caches", "memory", "compiler", "flags", "moe", "xsimd"}) {
            check(document.at("header").contains(name), name);
        }
        check(document.at("rows").size() == 1, "not one row");
        const auto& check_one = backward ? check_backward_row : check_row;
        check_one(document.at("rows").at(0), argv[2], std::stoi(argv[3]), std::stoi(argv[4]));
    } catch (const std::exception& error) {
        check(false, error.what());
    }
    return failures == 0 ? 0 : 1;
}
