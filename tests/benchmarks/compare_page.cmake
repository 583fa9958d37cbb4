# cmake -D CHROMIUM= -D WRITE= -D CHECK= -D PROBE= -D SCRATCH= -P compare_page.cmake
# Opens the pages of made-up reports in a browser: no error of a script, every plot drawn, the rows those of the JSON;
# and uses them as wide as a phone and as a screen: no text over another, tips, chips, selects, sorting, themes, plots alone.
if(NOT CHROMIUM)
    message("skipped: there is no Chromium to open the page in (apt-get install chromium)")
    return()
endif()
file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH})

# the DOM of SCRATCH/<page>.html as the browser leaves it, into SCRATCH/<page>.dom
function(open page)
    # its own sandbox does not start for root or in a container; the pages are ours and load nothing
    execute_process(COMMAND ${CHROMIUM} --headless --no-sandbox --disable-gpu --user-data-dir=${SCRATCH}/profile
                            --virtual-time-budget=20000 --window-size=1200,900 --dump-dom file://${SCRATCH}/${page}.html
                    OUTPUT_FILE ${SCRATCH}/${page}.dom ERROR_VARIABLE errors RESULT_VARIABLE status TIMEOUT 120)
    file(SIZE ${SCRATCH}/${page}.dom size)
    if(NOT status EQUAL 0 OR size EQUAL 0)
        message(FATAL_ERROR "${CHROMIUM}: exit status ${status}\n${errors}")
    endif()
endfunction()

# <page>.dom must show <json>.json, or, where the last argument is MUST_FAIL, must be found not to
function(check page json)
    execute_process(COMMAND ${CHECK} ${SCRATCH}/${page}.dom ${SCRATCH}/${json}.json
                    RESULT_VARIABLE status ERROR_VARIABLE errors)
    if(ARGN STREQUAL "MUST_FAIL")
        if(NOT status EQUAL 1)
            message(FATAL_ERROR "${page} against ${json}.json was not found to be wrong: ${status}\n${errors}")
        endif()
    elseif(NOT status EQUAL 0)
        message(FATAL_ERROR "${page}: ${status}\n${errors}")
    endif()
endfunction()

# SCRATCH/<to>.html: SCRATCH/<from>.html with another script at its end
function(add_script from to script)
    file(READ ${SCRATCH}/${from}.html text)
    string(REPLACE "</body>" "<script>${script}</script></body>" text "${text}")
    file(WRITE ${SCRATCH}/${to}.html "${text}")
endfunction()

set(reports made_up untrained awkward costs empty)
foreach(report IN LISTS reports)
    execute_process(COMMAND ${WRITE} ${report} ${SCRATCH}/${report}.html ${SCRATCH}/${report}.json
                    RESULT_VARIABLE status ERROR_VARIABLE errors)
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "cannot write ${report}: ${status}\n${errors}")
    endif()
    open(${report})
    check(${report} ${report})
endforeach()

# what the checks above would say of a page that is wrong
check(made_up awkward MUST_FAIL)
check(costs made_up MUST_FAIL)
check(untrained made_up MUST_FAIL)
check(made_up untrained MUST_FAIL)
file(READ ${SCRATCH}/made_up.json json)
string(REPLACE "\"nll\": 1.412" "\"nll\": 1.413" other_json "${json}")
file(WRITE ${SCRATCH}/other.json "${other_json}")
check(made_up other MUST_FAIL)
file(READ ${SCRATCH}/costs.json json)
string(REPLACE "\"total_parameters\": 46700000000.0" "\"total_parameters\": 46800000000.0" other_json "${json}")
file(WRITE ${SCRATCH}/other.json "${other_json}")
check(costs other MUST_FAIL)
add_script(made_up silent "document.getElementById('findings').lastChild.remove();")
open(silent)
check(silent made_up MUST_FAIL)
add_script(made_up overbold "const said = document.getElementById('findings').firstChild;
said.textContent = said.textContent.replace('not told apart', 'told apart');")
open(overbold)
check(overbold made_up MUST_FAIL)
add_script(made_up throwing "throw new Error('on purpose');")
open(throwing)
check(throwing made_up MUST_FAIL)

# each page in a frame as wide as a phone and in one as wide as a screen; what they report is written into this page
file(READ ${PROBE} probe)
set(frames "")
foreach(report IN LISTS reports)
    add_script(${report} ${report}_probed "${probe}")
    foreach(width 390 1200)
        string(APPEND frames "<iframe width=\"${width}\" height=\"900\" src=\"${report}_probed.html\"></iframe>\n")
    endforeach()
endforeach()
file(WRITE ${SCRATCH}/frames.html "<!DOCTYPE html><pre id=\"reports\"></pre><script>
addEventListener('message', ({ data }) => {
    const fine = data.errors === '0' && data.problems.length === 0;
    document.getElementById('reports').textContent +=
        `\${fine ? 'fine' : 'wrong'}: \${data.width} wide, \${data.done.length} states ` +
        `\${data.error} \${data.problems.join(' / ')}\\n`;
});</script>\n${frames}")
open(frames)
file(READ ${SCRATCH}/frames.dom text)
string(REGEX MATCH "<pre id=\"reports\">(.*)</pre>" found "${text}")
set(found "${CMAKE_MATCH_1}")
# the states seen of each report
set(states_made_up 104)
set(states_untrained 60)
set(states_awkward 60)
set(states_costs 30)
set(states_empty 2)
foreach(width 390 1200)
    string(REGEX MATCHALL "fine: ${width} wide" fine "${found}")
    list(LENGTH fine fine)
    list(LENGTH reports wanted)
    if(NOT fine EQUAL wanted)
        message(FATAL_ERROR "${fine} of ${wanted} frames of ${width} pixels are fine:\n${found}")
    endif()
    foreach(report IN LISTS reports)
        if(NOT found MATCHES "fine: ${width} wide, ${states_${report}} states")
            message(FATAL_ERROR "no frame of ${width} pixels is fine in ${states_${report}} states:\n${found}")
        endif()
    endforeach()
endforeach()
