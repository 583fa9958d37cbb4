#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "../report.hpp"

namespace compare {

using Cell = std::variant<std::string, std::int64_t, double, bool, std::vector<double>>;

/// A part of a report as a table: what JSON and CSV write, so that neither can leave out what the other has.
struct Section {
    std::string name;
    std::vector<std::string> columns;
    std::vector<std::vector<Cell>> rows;  ///< each as long as `columns`
};

/// context, speed, balance, quality, collapse, trained, training, cost_machine, cost_models, cost.
std::vector<Section> sections(const Report& report);

}  // namespace compare
