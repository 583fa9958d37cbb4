#include "finished_trainings.hpp"

#include <cmath>
#include <fstream>
#include <limits>
#include <utility>

#include <moe/config.hpp>
#include <moe/version.hpp>
#include <nlohmann/json.hpp>

#include "../../../examples/train/folder.hpp"
#include "../figures.hpp"

namespace compare {

namespace {

using nlohmann::json;

/// All that the figures of a training depend on; another library may compute others.
json key_of(const TrainedStrategy& strategy, const TrainingPlan& plan, std::uint64_t seed) {
    return {{"strategy", strategy.name},
            {"description", strategy.description},
            {"seed", seed},
            {"settings", trainer::to_metadata(plan.run)},
            {"rows", plan.n_rows},
            {"rows_of_measure", plan.rows_of_measure},
            {"bytes", plan.text->training().size()},
            {"held_out", plan.text->held_out().size()},
            {"moe", {MOE_VERSION_MAJOR, MOE_VERSION_MINOR, MOE_VERSION_PATCH}},
            {"isa", moe::isa_name()}};
}

/// Not all figures of a training are finite, which JSON cannot say.
json number(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }
double number(const json& value) {
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

template <class Row, class Figures>
json figures_of(const Row& row, const Figures& figures) {
    json object;
    for (const auto& [name, member] : figures) {
        object[name] = number(row.*member);
    }
    return object;
}

template <class Row, class Figures>
void read_figures(const json& object, const Figures& figures, Row& row) {
    for (const auto& [name, member] : figures) {
        row.*member = number(object.at(name));
    }
}

json to_json(const Training& training) {
    json curve = json::array();
    for (const TrainingRow& row : training.curve) {
        json object = figures_of(row, training_figures);
        object["step"] = row.step;
        object["load"] = row.load;
        curve.push_back(std::move(object));
    }
    return {{"end", figures_of(training.end, trained_figures)}, {"curve", std::move(curve)}};
}

Training from_json(const json& object, const TrainedStrategy& strategy, std::uint64_t seed) {
    Training training;
    training.end.strategy = strategy.name;
    training.end.causal = strategy.causal;
    training.end.seeds = 1;
    read_figures(object.at("end"), trained_figures, training.end);
    training.end.nll_least = training.end.nll_most = training.end.nll;
    for (const json& each : object.at("curve")) {
        TrainingRow& row = training.curve.emplace_back();
        row.strategy = strategy.name;
        row.seed = seed;
        row.step = each.at("step").get<std::size_t>();
        row.load = each.at("load").get<std::vector<double>>();
        read_figures(each, training_figures, row);
    }
    return training;
}

}  // namespace

FinishedTrainings::FinishedTrainings(std::string directory) : directory_(std::move(directory)) {
    if (!directory_.empty()) {
        trainer::create_folder(directory_);
    }
}

std::string FinishedTrainings::path(const TrainedStrategy& strategy, std::uint64_t seed) const {
    return directory_ + "/" + std::string(strategy.name) + "-" + std::to_string(seed) + ".json";
}

std::optional<Training> FinishedTrainings::find(const TrainedStrategy& strategy, const TrainingPlan& plan,
                                                std::uint64_t seed) const {
    if (directory_.empty()) {
        return std::nullopt;
    }
    std::ifstream file(path(strategy, seed));
    const json object = json::parse(file, nullptr, false);
    if (!object.is_object() || object.value("key", json()) != key_of(strategy, plan, seed)) {
        return std::nullopt;
    }
    try {
        return from_json(object.at("training"), strategy, seed);
    } catch (const json::exception&) {  // damaged
        return std::nullopt;
    }
}

void FinishedTrainings::keep(const TrainedStrategy& strategy, const TrainingPlan& plan, std::uint64_t seed,
                             const Training& training) const {
    if (directory_.empty()) {
        return;
    }
    const json object{{"key", key_of(strategy, plan, seed)}, {"training", to_json(training)}};
    trainer::write_text_file(path(strategy, seed), object.dump() + "\n");
}

}  // namespace compare
