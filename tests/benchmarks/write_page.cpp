// usage: write_page REPORT PAGE JSON    writes the page and the JSON of one of the reports of made_up_report.hpp
#include <fstream>
#include <iostream>
#include <string>

#include "../../benchmarks/compare/output/output.hpp"
#include "made_up_report.hpp"

int main(int argc, char** argv) {
    if (argc != 4) {
        std::cerr << "usage: write_page made_up|untrained|awkward|costs|empty PAGE JSON\n";
        return 2;
    }
    const std::string name = argv[1];
    const compare::Report report = name == "made_up"     ? made_up_report()
                                   : name == "untrained" ? untrained_report()
                                   : name == "awkward"   ? awkward_report()
                                   : name == "costs"     ? costs_report()
                                                         : compare::Report{};
    std::ofstream page(argv[2]);
    page << compare::to_html(report);
    std::ofstream json(argv[3]);
    json << compare::to_json(report);
    page.close();
    json.close();
    return page.good() && json.good() ? 0 : 1;
}
