#pragma once

#include <filesystem>
#include <string>

#include "../../examples/train/run.hpp"

namespace moe_test {

/// A folder of its own, away with it in the end.
class Folder {
public:
    explicit Folder(const std::string& name) : path_(std::filesystem::temp_directory_path() / name) {
        std::filesystem::remove_all(path_);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { std::filesystem::remove_all(path_); }
    [[nodiscard]] std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

/// A training of sizes that no vector fits.
inline trainer::Run small_run() {
    trainer::Run run = trainer::default_run();
    run.config.d_model = 12;
    run.config.d_ff = 7;
    run.config.n_layers = 2;
    run.config.n_experts = 5;
    run.settings.length = 20;
    run.settings.batch = 3;
    run.settings.schedule = {.rate = 1e-2, .n_steps = 12};
    trainer::complete(run);
    return run;
}

}  // namespace moe_test
