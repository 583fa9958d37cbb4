#pragma once

#include <chrono>
#include <string>

namespace compare {

/// One line on stderr that says what is being done, how much is done and how long the rest will take. On a terminal it
/// replaces itself; elsewhere each part gets a line once.
class Progress {
public:
    /// `total`: the work of all parts, in any unit.
    explicit Progress(double total);
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    ~Progress();

    /// What comes next: `detail` of `part`.
    void begin(const std::string& part, const std::string& detail = {});

    /// So much work is done.
    void advance(double work);

private:
    void print();

    double total_;
    double done_ = 0;
    bool terminal_;
    std::string part_;
    std::string detail_;
    std::chrono::steady_clock::time_point start_;
    std::chrono::steady_clock::time_point printed_{};
};

}  // namespace compare
